"""Who may import whom (design: "Arrows"), and that a stage depends on exactly the code its step imports."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
import yaml

from components.steps import STEPS
from tests.conftest import ROOT
from tests.imports import file_of, imports, modules, reach, tree

HEAVY = {"torch", "torchvision", "transformers", "timm", "mlflow", "sklearn", "pandas", "scipy"}
# What a bare training machine has.
BARE = {"torch", "torchvision", "transformers", "numpy", "pyarrow", "pydantic", "pydantic_core"}
BARE |= {"safetensors", "tokenizers", "PIL", "tqdm", "yaml", "psutil"}
# An optional package is imported in one file.
EXTRAS = {"retrainer.models.timm": {"timm"}, "retrainer.training._lora": {"peft"}}
# PyTorch brings it where it can compile for a GPU, and nothing else imports these two.
EXTRAS |= {f"retrainer.training._{name}_kernels": {"triton"} for name in ("norm", "pool")}

LIBRARY = modules("retrainer")
COMPONENTS = modules("components")
PIPELINES = modules("pipelines")


def below(package: str) -> list[str]:
    return [name for name in LIBRARY if name == package or name.startswith(f"{package}.")]


def names(module: str) -> set[str]:
    return {found.name for found in imports(module)}


def tops(module: str) -> set[str]:
    return {name.partition(".")[0] for name in names(module)}


@pytest.mark.parametrize("module", LIBRARY)
def test_the_library_knows_no_orchestrator_and_nothing_above_it(module: str) -> None:
    assert not tops(module) & {"components", "pipelines", "plugins", "kfp", "dvc"}


@pytest.mark.parametrize("module", COMPONENTS)
def test_a_component_knows_no_orchestrator_and_no_other_step(module: str) -> None:
    others = {f"components.{step}" for step in STEPS} - {module}
    assert not tops(module) & {"pipelines", "kfp", "dvc"}
    assert not names(module) & others


@pytest.mark.parametrize("module", PIPELINES)
def test_pipelines_never_reach_torch(module: str) -> None:
    assert not tops(module) & HEAVY
    assert not reach(module, only_at_once=True) & HEAVY


@pytest.mark.parametrize("package", ["tasks", "models"])
def test_tasks_and_families_do_not_know_each_other(package: str) -> None:
    other = "retrainer.models" if package == "tasks" else "retrainer.tasks"
    for module in below(f"retrainer.{package}")[1:]:  # the package itself opens the file that a setting names
        assert not {name for name in names(module) if name.startswith(other)}, module
        shared = {name for name in names(module) if name.startswith(f"retrainer.{package}.")}
        assert all(name.rpartition(".")[2].startswith("_") for name in shared), f"{module} imports {shared}"


@pytest.mark.parametrize("package", ["training", "tasks", "models", "data", "formats"])
def test_pure_work_reaches_no_service(package: str) -> None:
    for module in below(f"retrainer.{package}"):
        assert not tops(module) & {"mlflow", "boto3", "botocore", "requests", "urllib3"}, module
        assert not {name for name in names(module) if name.startswith("retrainer.services")}, module


@pytest.mark.parametrize("package", ["training", "tasks", "models", "formats"])
def test_a_bare_training_machine_has_all_that_training_needs(package: str) -> None:
    standard = set(sys.stdlib_module_names) | {"retrainer"}
    for module in below(f"retrainer.{package}"):
        assert not tops(module) - standard - BARE - EXTRAS.get(module, set()), module


@pytest.mark.parametrize("module", [*LIBRARY, *COMPONENTS, *PIPELINES])
def test_only_services_and_command_lines_read_the_environment(module: str) -> None:
    command_lines = {"retrainer.doctor", "retrainer.__main__", "components.__main__", "components._process"}
    command_lines |= {"retrainer.registry.served"}  # runs far from here, started by MLflow
    if module.startswith(("pipelines", "retrainer.services")) or module in command_lines:
        return
    read = {ast.unparse(node) for node in ast.walk(tree(module)) if isinstance(node, ast.Attribute)}
    assert not read & {"os.environ", "os.getenv"}, module


@pytest.mark.parametrize("module", [*LIBRARY, *COMPONENTS, *PIPELINES])
def test_only_resolve_opens_the_settings_file(module: str) -> None:
    if module == "retrainer.resolve":
        return
    told = {id(node.value) for node in ast.walk(tree(module)) if isinstance(node, ast.Expr)}
    texts = [n for n in ast.walk(tree(module)) if isinstance(n, ast.Constant) and n.value == "params.yaml"]
    assert all(id(node) in told for node in texts), module


def test_importing_a_door_imports_nothing_heavy() -> None:
    doors = [*COMPONENTS, "retrainer.resolve", "retrainer.services.lookup", *PIPELINES]
    doors = [name for name in doors if not name.endswith("__main__")]
    code = f"import sys, {', '.join(doors)}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_version_file_holds_nothing_that_changes_a_result() -> None:
    """So that stages need not depend on it: a new version number retrains nothing."""
    kinds = [type(node) for node in tree("retrainer").body]
    assert kinds == [ast.Expr, ast.Assign]


def unit(module: str) -> str:
    """What a stage depends on for `module`: its sub-package, or its file where there is none."""
    parts = module.split(".")
    if len(parts) == 2:
        path = file_of(module)
        assert path is not None
        return str(path.relative_to(ROOT))
    return "/".join(parts[:2])


def derived(step: str) -> set[str]:
    ours = {name for name in reach(f"components.{step}") if name.startswith(("retrainer.", "components."))}
    files = {name for name in ours if file_of(name) and not str(file_of(name)).endswith("__init__.py")}
    return {unit(name) for name in files} | {f"components/{step}.py"}


@pytest.mark.parametrize("step", STEPS)
def test_a_stage_depends_on_exactly_the_code_that_its_step_imports(step: str) -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    code = {path for path in stages[step]["deps"] if not path.startswith("runs/")}
    assert sorted(code) == sorted(derived(step))
