"""Who may import whom (design: "Arrows")."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from components.steps import STEPS
from tests.conftest import ROOT
from tests.imports import BARE, imported, is_package, modules, reach, tree

HEAVY = {"torch", "torchvision", "transformers", "timm", "mlflow", "sklearn", "pandas", "scipy"}
# An optional package is imported in one file.
EXTRAS = {
    "retrainer.formats.audio": {"soundfile"},
    "retrainer.models.timm": {"timm"},
    "retrainer.training._lora": {"peft"},
    # The cheap baseline of classification: evaluation alone reaches it.
    "retrainer.tasks._class_baselines": {"sklearn", "threadpoolctl"},
    "retrainer.tasks._class_features": {"sklearn"},
    # That of translation, likewise.
    "retrainer.tasks._nearest_text": {"sklearn"},
    # PyTorch brings it where it can compile for a GPU, and nothing else imports these two.
    **{f"retrainer.training._{name}_kernels": {"triton"} for name in ("norm", "pool")},
}

LIBRARY = modules("retrainer")
COMPONENTS = modules("components")
PIPELINES = modules("pipelines")


def below(package: str) -> list[str]:
    return [name for name in LIBRARY if name == package or name.startswith(f"{package}.")]


def tops(module: str) -> set[str]:
    return {name.partition(".")[0] for name in imported(module)}


@pytest.mark.parametrize("module", LIBRARY)
def test_the_library_knows_no_orchestrator_and_nothing_above_it(module: str) -> None:
    assert not tops(module) & {"components", "pipelines", "plugins", "kfp", "dvc"}


@pytest.mark.parametrize("module", COMPONENTS)
def test_a_component_knows_no_orchestrator_and_no_other_step(module: str) -> None:
    others = {f"components.{step}" for step in STEPS} - {module}
    assert not tops(module) & {"pipelines", "kfp", "dvc"}
    assert not imported(module) & others


@pytest.mark.parametrize("module", PIPELINES)
def test_pipelines_never_reach_torch(module: str) -> None:
    assert not tops(module) & HEAVY
    assert not reach(module, only_at_once=True) & HEAVY


@pytest.mark.parametrize("package", ["tasks", "models"])
def test_tasks_and_families_do_not_know_each_other(package: str) -> None:
    other = "retrainer.models" if package == "tasks" else "retrainer.tasks"
    for module in below(f"retrainer.{package}")[1:]:  # the package itself opens the file that a setting names
        assert not {name for name in imported(module) if name.startswith(other)}, module
        shared = {name for name in imported(module) if name.startswith(f"retrainer.{package}.")}
        assert all(name.rpartition(".")[2].startswith("_") for name in shared), f"{module} imports {shared}"


def test_a_metric_knows_no_other_metric_and_no_task() -> None:
    for module in below("retrainer.metrics")[1:]:
        ours = {name for name in imported(module) if name.startswith("retrainer.")}
        shared = {name for name in ours if name.startswith("retrainer.metrics._")}
        assert ours - shared <= {"retrainer.errors"}, module


def test_the_gate_knows_no_task_no_model_and_no_service() -> None:
    known = ("retrainer.gate", "retrainer.metrics", "retrainer.settings", "retrainer.errors")
    for module in below("retrainer.gate"):
        assert all(name.startswith(known) for name in imported(module) if name.startswith("retrainer.")), (
            module
        )


@pytest.mark.parametrize(("one", "other"), [("evaluation", "registry"), ("registry", "evaluation")])
def test_evaluation_and_registry_meet_in_the_gate_alone(one: str, other: str) -> None:
    for module in below(f"retrainer.{one}"):
        assert not {name for name in imported(module) if name.startswith(f"retrainer.{other}")}, module


@pytest.mark.parametrize("package", ["training", "tasks", "models", "data", "formats"])
def test_pure_work_reaches_no_service(package: str) -> None:
    for module in below(f"retrainer.{package}"):
        assert not tops(module) & {"mlflow", "boto3", "botocore", "requests", "urllib3"}, module
        assert not {name for name in imported(module) if name.startswith("retrainer.services")}, module


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


@pytest.mark.parametrize("package", [name for name in [*LIBRARY, *PIPELINES] if is_package(name)])
def test_importing_a_package_only_defines_names(package: str) -> None:
    """A step's code need not count what a package passes on beside what the step asks it for."""
    for line in tree(package).body:
        quiet = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
        is_text = isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
        for_types = isinstance(line, ast.If) and ast.unparse(line.test) == "TYPE_CHECKING"
        assert isinstance(line, quiet) or is_text or for_types, ast.unparse(line)
        if isinstance(line, ast.Assign | ast.AnnAssign):
            assert not any(isinstance(part, ast.Call) for part in ast.walk(line)), ast.unparse(line)


@pytest.mark.parametrize("task", ["image_classification", "text_classification", "translation"])
def test_a_served_model_carries_nothing_of_its_judgement(task: str) -> None:
    from retrainer.registry.served_code import needed

    modules, packages = needed("mlp", task)
    assert not {"sklearn", "scipy"} & packages
    assert not [
        name
        for name in modules
        if name.startswith(("retrainer.pages", "retrainer.metrics", "retrainer.gate"))
    ]
