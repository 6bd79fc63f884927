"""Who may import whom (design: "Arrows")."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from components.steps import STEPS
from retrainer.extend import builtin_names
from tests.conftest import ROOT
from tests.imports import BARE, imported, is_package, modules, reach, text, tree

HEAVY = {"torch", "torchvision", "transformers", "timm", "keras", "mlflow", "sklearn", "pandas", "scipy"}
# An optional package is imported in one file.
EXTRAS = {
    "retrainer.formats.audio": {"soundfile"},
    "retrainer.models.timm": {"timm"},
    "retrainer.models._keras": {"keras"},
    "retrainer.models._keras_archive": {"h5py"},
    "retrainer.training._lora": {"peft"},
    "retrainer.training._opacus": {"opacus"},
    # The cheap baselines of classification and regression: evaluation alone reaches them.
    "retrainer.tasks._class_baselines": {"sklearn", "threadpoolctl"},
    "retrainer.tasks._class_features": {"sklearn"},
    "retrainer.tasks._number_baselines": {"sklearn", "threadpoolctl"},
    "retrainer.tasks._verification_baselines": {"sklearn", "threadpoolctl"},
    # Those of translation and of masks, likewise.
    "retrainer.tasks._nearest_text": {"sklearn"},
    "retrainer.tasks._mask_baselines": {"sklearn", "threadpoolctl"},
    # PyTorch brings it where it can compile for a GPU, and nothing else imports these.
    "retrainer.models._halved_kernels": {"triton"},
    **{f"retrainer.training._{name}_kernels": {"triton"} for name in ("attention", "dropout", "encoder")},
    **{
        f"retrainer.training._{name}_kernels": {"triton"}
        for name in ("first_convolution", "norm", "norm_pool")
    },
}

LIBRARY = modules("retrainer")
COMPONENTS = modules("components")
PIPELINES = modules("pipelines")


def below(package: str) -> list[str]:
    return [name for name in LIBRARY if name == package or name.startswith(f"{package}.")]


def tops(module: str) -> set[str]:
    return {name.partition(".")[0] for name in imported(module)}


def test_the_library_knows_no_orchestrator_and_nothing_above_it() -> None:
    for module in LIBRARY:
        assert not tops(module) & {"components", "pipelines", "plugins", "kfp", "dvc"}, module


def test_a_component_knows_no_orchestrator_and_no_other_step() -> None:
    for module in COMPONENTS:
        others = {f"components.{step}" for step in STEPS} - {module}
        assert not tops(module) & {"pipelines", "kfp", "dvc"}, module
        assert not imported(module) & others, module


def test_pipelines_never_reach_torch() -> None:
    for module in PIPELINES:
        assert not tops(module) & HEAVY, module
        assert not reach(module, only_at_once=True) & HEAVY, module


@pytest.mark.parametrize("package", ["tasks", "models"])
def test_tasks_and_families_do_not_know_each_other(package: str) -> None:
    other = "retrainer.models" if package == "tasks" else "retrainer.tasks"
    for module in below(f"retrainer.{package}")[1:]:  # the package itself opens the file that a setting names
        assert not {name for name in imported(module) if name.startswith(other)}, module
        shared = {name for name in imported(module) if name.startswith(f"retrainer.{package}.")}
        assert all(name.rpartition(".")[2].startswith("_") for name in shared), f"{module} imports {shared}"


def test_a_metric_knows_no_other_metric_and_no_task() -> None:
    known = {f"retrainer.{name}" for name in ("errors", "formats.columns", "formats.masks", "formats.tags")}
    for module in below("retrainer.metrics")[1:]:
        ours = {name for name in imported(module) if name.startswith("retrainer.")}
        shared = {name for name in ours if name.startswith("retrainer.metrics._")}
        assert ours - shared <= known, module


def test_the_gate_knows_no_task_no_model_and_no_service() -> None:
    known = tuple(f"retrainer.{name}" for name in ("gate", "metrics", "settings", "errors", "texts"))
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


def test_only_services_and_command_lines_read_the_environment() -> None:
    command_lines = {"retrainer.doctor", "retrainer.__main__", "components.command", "components._process"}
    # The environment of a forked step is that of the process which asks for it.
    command_lines |= {"components._forked", "components._fork_server"}
    # These run far from here, the first started by MLflow.
    command_lines |= {"retrainer.registry.served", "retrainer.registry.use_me"}
    # Keras is told its backend by nothing else; the second is copied out, and is a program of its own.
    command_lines |= {"retrainer.models._keras", "retrainer.export.use_me"}
    for module in {*LIBRARY, *COMPONENTS} - command_lines:
        if not module.startswith("retrainer.services") and "env" in text(module):
            found = [node for node in ast.walk(tree(module)) if isinstance(node, ast.Attribute)]
            read = [ast.unparse(node) for node in found if node.attr in ("environ", "getenv")]
            assert not {"os.environ", "os.getenv"} & {*read}, module


def test_only_resolve_opens_the_settings_file() -> None:
    others = {*LIBRARY, *COMPONENTS, *PIPELINES} - {"retrainer.resolve.recipes"}
    for module in (name for name in others if "params.yaml" in text(name)):
        nodes = list(ast.walk(tree(module)))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        texts = [node for node in nodes if isinstance(node, ast.Constant) and node.value == "params.yaml"]
        assert all(id(node) in docstrings for node in texts), module


def test_importing_a_door_imports_nothing_heavy() -> None:
    doors = [*COMPONENTS, "retrainer.resolve", "retrainer.services.lookup", *PIPELINES]
    doors = [name for name in doors if not name.endswith("__main__")]
    # As tests/conftest.py leaves it out.
    code = "import sys; sys.modules['rfc3987_syntax'] = None;"
    code += f"import {', '.join(doors)}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_source_that_only_names_its_files_imports_no_arrow() -> None:
    """An unchanged `make pipeline` asks for no more."""
    reads_tables_for_it = {"retrainer.data.sources.parquet", "retrainer.data.sources.dataset"}
    sources = [f"retrainer.data.sources.{name}" for name in builtin_names("data/sources")]
    reaching = {name for name in sources if {"pyarrow", "numpy"} & reach(name, only_at_once=True)}
    assert reaching == reads_tables_for_it


def test_importing_a_package_only_defines_names() -> None:
    """A step's code need not count what a package passes on beside what the step asks it for."""
    for package in filter(is_package, [*LIBRARY, *PIPELINES]):
        for line in tree(package).body:
            assert only_defines_names(line), f"{package}: {ast.unparse(line)}"


def only_defines_names(line: ast.stmt) -> bool:
    match line:
        case ast.Assign() | ast.AnnAssign():
            return not any(isinstance(part, ast.Call) for part in ast.walk(line))
        case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.ClassDef():
            return True
        case ast.Expr(value=ast.Constant()):  # a docstring
            return True
        case ast.If(test=test):
            return ast.unparse(test) == "TYPE_CHECKING"
    return False


@pytest.mark.parametrize(
    "task",
    [
        "image_classification",
        "text_classification",
        "translation",
        "sequence_tagging",
        "semantic_segmentation",
    ],
)
def test_a_served_model_carries_nothing_of_its_judgement(task: str) -> None:
    from retrainer.registry.served_code import needed

    modules, packages = needed("mlp", task)
    assert not {"sklearn", "scipy"} & packages
    assert not [
        name
        for name in modules
        if name.startswith(("retrainer.pages", "retrainer.metrics", "retrainer.gate"))
    ]
