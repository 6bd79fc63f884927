"""One digest a step: what changes it, what does not, and how little has to be read for it."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path
from typing import Any

import pytest

from components.steps import STEPS
from retrainer.code import modules as graph
from retrainer.code.digests import Reach, project_code, step_digests
from retrainer.code.modules import Modules
from retrainer.code.read import Import, read
from retrainer.errors import UserError
from retrainer.settings import SECTIONS
from tests.conftest import ROOT
from tests.imports import modules

Chosen = dict[str, dict[str, Any]]
MLP = {"backbone": {"family": "mlp"}}
MINE = {"task": {"kind": "edited_plugins.mine"}}


class Copy:
    """The library and the components in a folder of their own, to be edited."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("retrainer", "components"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))

    def digests(self, **chosen: dict[str, Any]) -> dict[str, str]:
        sections = {name: section().plain() for name, section in SECTIONS.items()}
        sections["source"]["kind"] = "csv"
        for name, values in chosen.items():
            sections[name] |= values
        code = project_code(self.root, self.root)
        code.folders = dict.fromkeys(code.folders, self.root)
        found = step_digests(STEPS, sections, code, self.root)
        code.remember()
        return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return Copy(tmp_path_factory.mktemp("project"))


@pytest.fixture
def project(whole: Copy) -> Any:
    """The copy, whose files are put back afterwards."""
    before = {path: path.read_text() for path in whole.root.rglob("*.py")}
    yield whole
    for path in whole.root.rglob("*.py"):
        if path not in before:
            path.unlink()
        elif path.read_text() != before[path]:
            path.write_text(before[path])


def changed(project: Copy, file: str, old: str, new: str, **chosen: dict[str, Any]) -> set[str]:
    """The steps whose digest another text in the file changes."""
    path, before = project.root / file, project.digests(**chosen)
    text = path.read_text()
    assert old in text, f"{file} no longer holds {old!r}"
    path.write_text(text.replace(old, new, 1))
    after = project.digests(**chosen)
    return {step for step in STEPS if after[step] != before[step]}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("retrainer/errors.py", '"""', '"""Another docstring. '),
        ("retrainer/errors.py", "from __future__", "# a comment\n\n\nfrom __future__"),
        ("retrainer/training/schedule.py", '"""', '"""Said otherwise. '),
        ("retrainer/__init__.py", "__version__ =", '__version__ = "9"; __version__ ='),
        ("retrainer/notify/message.py", "from __future__", "x = 1\nfrom __future__"),
        ("retrainer/doctor.py", "from __future__", "x = 1\nfrom __future__"),
        ("retrainer/settings/cluster.py", "from __future__", "x = 1\nfrom __future__"),
        ("retrainer/models/mlp.py", "from __future__", "x = 1\nfrom __future__"),
        ("retrainer/data/sources/jsonl.py", "from __future__", "x = 1\nfrom __future__"),
        ("retrainer/tasks/image_classification.py", "from __future__", "x = 1\nfrom __future__"),
        ("retrainer/tasks/_protocol.py", "if TYPE_CHECKING:", "if TYPE_CHECKING:\n    import json"),
        ("components/command.py", "from __future__", "x = 1\nfrom __future__"),
    ],
)
def test_what_no_step_runs_changes_no_digest(project: Copy, file: str, old: str, new: str) -> None:
    """Comments, docstrings, the version; and code that these settings do not choose."""
    assert changed(project, file, old, new) == set()


EDITS: dict[str, tuple[set[str], Chosen]] = {
    "retrainer/errors.py": (set(STEPS), {}),
    "retrainer/contract.py": (set(STEPS), {}),
    "retrainer/data/sources/csv.py": ({"ingest"}, {}),
    "retrainer/data/near.py": ({"preprocess"}, {}),
    "retrainer/pages/pairs.py": ({"preprocess", "evaluate"}, {}),
    "retrainer/retraining/two_sample.py": ({"decide"}, {}),
    "retrainer/training/schedule.py": ({"train"}, {}),
    # Imported inside functions alone, or started as another process.
    "retrainer/training/_lora.py": ({"train"}, {}),
    "retrainer/training/_worker.py": ({"train"}, {}),
    "retrainer/registry/ask_served.py": ({"register"}, {}),
    "retrainer/models/mlp.py": ({"train", "evaluate", "register"}, MLP),
    "retrainer/settings/judging.py": ({"decide", "evaluate", "register"}, {}),
    "components/evaluate.py": ({"evaluate"}, {}),
}


@pytest.mark.parametrize("file", EDITS)
def test_an_edit_changes_the_digest_of_exactly_the_steps_that_run_it(project: Copy, file: str) -> None:
    steps, chosen = EDITS[file]
    assert (
        changed(project, file, "from __future__ import", "_ADDED = 1\nfrom __future__ import", **chosen)
        == steps
    )


def test_the_text_of_a_message_is_code(project: Copy) -> None:
    assert changed(project, "retrainer/errors.py", 'f"; did you mean', 'f"; is it') == set(STEPS)


def test_a_tasks_part_in_the_report_counts_for_what_evaluates_alone(project: Copy) -> None:
    file, method = "retrainer/tasks/text_classification.py", "    def panels(self):\n        return {}\n\n"
    first = "    def __init__("
    judged = changed(project, file, first, method.format("[]") + first)
    assert judged == {"evaluate"}
    imported = method.format("__import__('x')").replace(
        "return", "from retrainer.notify import deliver\n        return"
    )
    assert changed(project, file, method.format("[]"), imported) == {"evaluate"}
    assert changed(project, "retrainer/notify/deliver.py", "from __future__", "x = 1\nfrom __future__") == {
        "evaluate"
    }


@pytest.fixture
def plugin(project: Copy, monkeypatch: pytest.MonkeyPatch) -> Copy:
    folder = project.root / "edited_plugins"
    (folder / "deep").mkdir(parents=True, exist_ok=True)
    (folder / "mine.py").write_text(
        "from retrainer.tasks.text_classification import Options, make\n"
        "def late():\n    from retrainer.notify import deliver\n"
    )
    (folder / "deep" / "helper.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(project.root))
    return project


TASKS = {"preprocess", "train", "evaluate", "register"}


@pytest.mark.parametrize(
    ("file", "old", "new", "steps"),
    [
        ("edited_plugins/deep/helper.py", "x = 1", "x = 2", TASKS),
        ("edited_plugins/deep/helper.py", "x = 1", "x = 1  # one", set()),
        ("retrainer/notify/deliver.py", "from __future__", "x = 1\nfrom __future__", TASKS),
    ],
)
def test_every_file_of_a_plugin_counts_and_what_it_imports_of_the_library(
    plugin: Copy, file: str, old: str, new: str, steps: set[str]
) -> None:
    assert changed(plugin, file, old, new, **MINE) == steps


def test_a_trainer_of_the_users_own_counts_with_what_it_imports(project: Copy) -> None:
    (project.root / "trainers").mkdir(exist_ok=True)
    (project.root / "trainers" / "run.py").write_text("from retrainer.pages import page\n")
    training = {"training": {"command": "python trainers/run.py"}}
    edit = ("retrainer/pages/page.py", "from __future__", "x = 1\nfrom __future__")
    assert "train" in changed(project, *edit, **training)
    assert "train" not in changed(project, *edit)


def test_nothing_is_parsed_twice(project: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    before = project.digests()
    monkeypatch.setattr(graph, "read", lambda *_: pytest.fail("parsed again"))
    assert project.digests() == before


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"rules": 1, "files": {}}', '{"files": 3}'])
def test_a_damaged_memory_is_no_obstacle(project: Copy, damage: str) -> None:
    before = project.digests()
    (project.root / "code.json").write_text(damage)
    assert project.digests() == before


def test_a_step_without_a_component_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no components/train\.py here"):
        step_digests(("train",), {}, project_code(tmp_path), tmp_path)


@pytest.mark.parametrize("name", modules("retrainer/training", "retrainer/tasks", "components"))
def test_how_a_file_is_laid_out_does_not_count(name: str) -> None:
    file = graph.Modules({"retrainer": ROOT, "components": ROOT}).file_of(name)
    assert file is not None
    text = file.read_text()
    assert read(ast.unparse(ast.parse(text)), name) == read(text, name)


READ = [
    ("import a.b", Import("a.b", "", True)),
    ("from a import b as c", Import("a", "b", True)),
    ("from . import x", Import("here", "x", True)),
    ("from .x import y", Import("here.x", "y", True)),
    ("from ..x import y", Import("x", "y", True)),
    ("def f():\n    import a", Import("a", "", False)),
    ("class A:\n    import a", Import("a", "", True)),
    ("Path(__file__).with_name('script.py')", Import("here", "script", False)),
    ("run(['python', '-c', f'x = {1}; from a.b import c'])", Import("a.b", "c", False)),
]


@pytest.mark.parametrize(("text", "found"), READ)
def test_every_way_to_import_is_seen(text: str, found: Import) -> None:
    package = "top.here" if found.module == "x" else "here"
    expected = found._replace(module="top.x") if found.module == "x" else found
    assert read(text, package)[0].imports == (expected,)


@pytest.mark.parametrize(
    "text", ["if TYPE_CHECKING:\n    import a", '"""from a.b import c"""', "x = 'import a'"]
)
def test_what_is_never_imported_is_not(text: str) -> None:
    assert read(text, "here")[0].imports == ()


def test_a_name_that_a_package_passes_on_leads_to_where_it_is_defined(tmp_path: Path) -> None:
    files = {
        "pack/__init__.py": "from pack.first import one\nfrom pack.second import two\nOWN = 1\n",
        "pack/first.py": "one = 1",
        "pack/second.py": "two = 2",
        "user.py": "from pack import two",
        "other.py": "from pack import OWN",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    reach = Reach({}, Modules(dict.fromkeys(("pack", "user", "other"), tmp_path)))
    assert reach.modules("user") == {"user", "pack.second"}
    assert reach.modules("other") == {"other", "pack", "pack.first", "pack.second"}
