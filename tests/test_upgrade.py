"""`retrainer upgrade`: what a person changed is kept, what is new comes in, and git takes all of it back."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from components.steps import STEPS
from retrainer import __main__ as command_line
from retrainer import __version__
from retrainer.code.digests import project_code, step_digests
from retrainer.code.modules import Modules
from retrainer.errors import UserError
from retrainer.projects import upgrade as upgrading
from retrainer.projects.project import RECORD, keep_library
from retrainer.projects.template import Template, of_wheel
from retrainer.projects.upgrade import upgrade
from retrainer.resolve import settle
from retrainer.services.database import template_path
from tests.conftest import ROOT
from tests.project import ORDER, TINY, draw_stripes, environment, steps
from tests.wheels import archive, build, commit, contents, git, retrainer, source_tree

LINES = "".join(f"line {number}\n" for number in range(9))
OLD = {
    "Makefile": LINES,
    "recipes/tried.yaml": LINES,
    "recipes/plain.yaml": LINES,
    "recipes/unwanted.yaml": LINES,
    "docker/gone": LINES,
    "docker/gone-too": LINES,
    "params.yaml": LINES,
    "recipes/stages.json": "{}\n",
}
NEW = {
    "Makefile": LINES.replace("line 7", "line 7 of the new version"),
    "recipes/tried.yaml": LINES.replace("line 0", "line 0 of the new version"),
    "recipes/plain.yaml": LINES + "more\n",
    "recipes/unwanted.yaml": LINES + "more\n",
    "recipes/added.yaml": LINES,
    "install": "#!/bin/sh\n",
    "params.yaml": LINES,
    "recipes/stages.json": '{"new": 1}\n',
}
# What a person has done to the old one; None: deleted it.
EDITED = {
    "Makefile": LINES.replace("line 1", "line 1 of mine"),
    "recipes/tried.yaml": LINES.replace("line 8", "line 8 of mine"),
    "recipes/unwanted.yaml": None,
    "recipes/own.yaml": "mine\n",
    "docker/gone-too": LINES + "mine\n",
    "params.yaml": "mine\n",
}


def wheel_of(files: dict[str, str]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in files.items():
            archive.writestr(f"retrainer/template/{path}", text)
    return made.getvalue()


def write(root: Path, files: dict[str, str | None]) -> None:
    for path, text in files.items():
        if text is None:
            (root / path).unlink()
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a version of Retrainer the one that runs."""

    def run(version: str, files: dict[str, str]) -> None:
        template = Template(version, {path: text.encode() for path, text in files.items()})
        monkeypatch.setattr(upgrading, "of_this_library", lambda: template)
        monkeypatch.setattr(upgrading, "packed", lambda: wheel_of(files))

    return run


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of 0.1.0 with a person's edits, in git."""
    root = tmp_path_factory.mktemp("edited")
    git(root, "init", "--quiet")
    write(root, dict(OLD))
    keep_library(root, "0.1.0", wheel_of(OLD))
    commit(root)
    write(root, EDITED)
    commit(root)
    return root


@pytest.fixture
def project(edited: Path, tmp_path: Path, runs: Callable[..., None]) -> Path:
    """A copy of it, where 0.2.0 runs."""
    runs("0.2.0", NEW)
    return Path(shutil.copytree(edited, tmp_path / "project"))


def test_what_one_side_changed_is_there_afterwards(project: Path) -> None:
    lines, status = upgrade(project)
    assert status == 0
    assert lines[1:9] == [
        "  merged    Makefile",
        "  removed   docker/gone",
        "  kept      docker/gone-too: you have changed it; 0.2.0 no longer has it",
        "  added     install",
        "  added     recipes/added.yaml",
        "  updated   recipes/plain.yaml",
        "  merged    recipes/tried.yaml",
        "  left out  recipes/unwanted.yaml: you have deleted it; 0.2.0 changed it",
    ]
    found = {path: content.decode() for path, content in contents(project).items() if path[0] != "."}
    assert found == {
        "Makefile": EDITED["Makefile"].replace("line 7", "line 7 of the new version"),
        "recipes/tried.yaml": EDITED["recipes/tried.yaml"].replace("line 0", "line 0 of the new version"),
        "recipes/plain.yaml": NEW["recipes/plain.yaml"],
        "recipes/added.yaml": LINES,
        "recipes/own.yaml": "mine\n",
        "docker/gone-too": EDITED["docker/gone-too"],
        "params.yaml": "mine\n",
        "install": "#!/bin/sh\n",
        "recipes/stages.json": "{}\n",  # runs write it
    }
    assert (project / "install").stat().st_mode & 0o111 and not (project / "Makefile").stat().st_mode & 0o111


def test_the_project_has_the_newer_library_alone(project: Path, runs: Callable[..., None]) -> None:
    upgrade(project)
    (wheel,) = (project / ".retrainer").glob("*.whl")
    assert wheel.name == "retrainer-0.2.0-py3-none-any.whl" and wheel.read_bytes() == wheel_of(NEW)
    assert json.loads((project / RECORD).read_text()) == {
        "format_version": 1,
        "version": "0.2.0",
        "wheel_sha256": hashlib.sha256(wheel_of(NEW)).hexdigest(),
    }
    (said,), status = upgrade(project)
    assert status == 0 and said.startswith("nothing to do: this project already has Retrainer 0.2.0")
    # The next upgrade starts from what this one brought: nothing of it is asked again.
    commit(project)
    runs("0.3.0", NEW | {"Makefile": NEW["Makefile"].replace("line 4", "line 4 of the third")})
    lines, status = upgrade(project)
    assert status == 0 and lines[1:3] == ["  merged    Makefile", ""]
    text = (project / "Makefile").read_text()
    assert all(
        line in text for line in ("line 1 of mine", "line 4 of the third", "line 7 of the new version")
    )


CLASH = {"Makefile": LINES.replace("line 1", "line 1 of theirs"), "recipes/own.yaml": "theirs\n"}


def test_a_conflict_is_marked_named_and_left_to_the_person(project: Path, runs: Callable[..., None]) -> None:
    runs("0.2.0", NEW | CLASH)
    lines, status = upgrade(project)
    assert status == 1
    assert "  conflict  Makefile: 1 place between <<<<<<< and >>>>>>>" in lines
    assert "  conflict  recipes/own.yaml.new: recipes/own.yaml is your own; 0.2.0 brings one, too" in lines
    assert "resolve the 2 conflicts listed above" in lines[-2]
    text = (project / "Makefile").read_text()
    marked = "<<<<<<< yours\nline 1 of mine\n=======\nline 1 of theirs\n>>>>>>> Retrainer 0.2.0\n"
    assert marked in text
    assert (project / "recipes/own.yaml").read_text() == "mine\n"
    assert (project / "recipes/own.yaml.new").read_text() == "theirs\n"
    assert "more" in (project / "recipes/plain.yaml").read_text(), "the rest came in"
    assert git(project, "diff", "--name-only") == "Makefile\n", "what is settled already is staged"


def test_git_takes_all_of_it_back(project: Path, runs: Callable[..., None]) -> None:
    write(project, {"notes.txt": "in no commit\n"})
    before = contents(project)
    runs("0.2.0", NEW | CLASH)
    upgrade(project)
    assert contents(project) != before
    git(project, "reset", "--hard", "--quiet")
    assert contents(project) == before and git(project, "status", "--porcelain") == "?? notes.txt\n"


def test_git_takes_back_what_an_upgrade_left_half_way(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "template.json")

    before = contents(project)
    with monkeypatch.context() as patch:
        patch.setattr("retrainer.projects.project.write_json", full)
        with pytest.raises(UserError, match=r"No space left on device; undo the rest by git reset --hard"):
            upgrade(project)
    assert contents(project) != before
    git(project, "reset", "--quiet", "--hard")
    assert contents(project) == before
    assert upgrade(project)[1] == 0


def test_a_dry_run_says_it_and_does_nothing(project: Path, runs: Callable[..., None]) -> None:
    runs("0.2.0", NEW | CLASH)
    before = contents(project)
    lines, status = upgrade(project, dry_run=True)
    assert contents(project) == before and not git(project, "status", "--porcelain")
    said, same = upgrade(project)
    assert (lines[1:], status) == (said[1:-3], same) and status == 1
    assert lines[0].startswith("Retrainer 0.1.0 → 0.2.0 (dry run: nothing was written)")


def test_what_is_no_text_lies_beside(project: Path) -> None:
    (project / "Makefile").write_bytes(b"\0mine")
    commit(project)
    lines, status = upgrade(project)
    assert status == 1 and "  conflict  Makefile.new: both sides changed it, and it is no text" in lines
    assert (project / "Makefile").read_bytes() == b"\0mine"
    assert (project / "Makefile.new").read_text() == NEW["Makefile"]


def record(**values: object) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        path = root / RECORD
        path.write_text(json.dumps(json.loads(path.read_text()) | values))
        commit(root)

    return edit


def link(root: Path) -> None:
    (root / "recipes").rename(root.parent / "recipes")
    (root / "recipes").symlink_to(root.parent / "recipes")
    commit(root)


def untracked(root: Path) -> None:
    git(root, "rm", "--quiet", "--cached", "Makefile")
    git(root, "commit", "--quiet", "--message", "mine")


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda root: write(root, {"params.yaml": "x\n"}), "params.yaml has changes that are not committed"),
        (untracked, "Makefile is not in git, and an upgrade leaves a way back: git add --force Makefile"),
        (
            lambda root: (root / RECORD).unlink(),
            "there is no .retrainer/template.json here: run this in the ro",
        ),
        (lambda root: (root / RECORD).write_text("{"), ".retrainer/template.json is not what retrainer new"),
        (record(format_version=2), "has format 2, and this Retrainer knows 1: use a newer one"),
        (record(version="../x"), "'../x' is no version"),
        (record(version="0.0.9"), "of Retrainer 0.0.9, and the oldest that can be upgraded is 0.1.0"),
        (record(version="0.10.0"), "of Retrainer 0.10.0, and the one that runs is older (0.2.0)"),
        (record(version="0.1.1"), "retrainer-0.1.1-py3-none-any.whl is not here, though it is named"),
        (record(wheel_sha256="0"), "retrainer-0.1.0-py3-none-any.whl has other content than"),
        (link, "recipes is a link, and an upgrade writes into the project alone"),
        (lambda root: write(root, {"install/x": "x"}), "install is in the way of the file install: move it"),
    ],
)
def test_what_cannot_be_upgraded_is_told_and_left(
    project: Path,
    edit: Callable[[Path], None],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    edit(project)
    before = contents(project)
    monkeypatch.chdir(project)
    assert command_line.main(["upgrade"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("upgrade: ") and says in line
    assert contents(project) == before


def test_a_second_file_beside_is_not_replaced(project: Path, runs: Callable[..., None]) -> None:
    runs("0.2.0", NEW | CLASH)
    write(project, {"recipes/own.yaml.new": "mine too\n"})
    with pytest.raises(UserError, match=re.escape("recipes/own.yaml.new is here from an earlier upgrade")):
        upgrade(project)
    assert (project / "recipes/own.yaml.new").read_text() == "mine too\n"


def test_a_project_in_no_repository_is_told_how(project: Path) -> None:
    (project / ".git").rename(project.parent / "git")
    with pytest.raises(UserError, match=r"not in git yet, or not its .*: git init && git add --all"):
        upgrade(project)


def test_a_wheel_writes_nowhere_else(tmp_path: Path) -> None:
    for path in ("../outside", "/outside", "recipes/../../outside"):
        (tmp_path / "x.whl").write_bytes(wheel_of({path: "x"}))
        with pytest.raises(UserError, match="would lie outside of the project"):
            of_wheel(tmp_path / "x.whl", "0.1.0")
    (tmp_path / "x.whl").write_bytes(b"no wheel")
    with pytest.raises(UserError, match="no wheel of Retrainer"):
        of_wheel(tmp_path / "x.whl", "0.1.0")


def test_a_checkout_makes_no_project(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["new", "anything"]) == 2
    assert "make wheel" in capsys.readouterr().err


# --- the last release, and this one ----------------------------------------------------------------------

RELEASE = f"{__version__}rc1"
# What the last release said otherwise than this one.
EARLIER = {
    "retrainer/__init__.py": (f'__version__ = "{__version__}"', f'__version__ = "{RELEASE}"'),
    "pyproject.toml": (f'version = "{__version__}"', f'version = "{RELEASE}"'),
    "Makefile": ("train on parts of the rows: how many more", "train on parts of the rows: how"),
    "recipes/digits-mlp.yaml": ("  epochs: 50\n", "  epochs: 40\n"),
    "components/register.py": ('"""Registration', '"""An earlier registration'),
    "requirements.lock": ((ROOT / "requirements.lock").read_text(), "# installed already\n"),
}
MINE = {
    "Makefile": ("clean: ##", "mine: ## my own target\n\t@echo mine\n\nclean: ##"),
    "recipes/digits-mlp.yaml": ("  hidden: [128, 64]\n", "  hidden: [256, 64]\n"),
}


def project_of_last_release(folder: Path) -> Path:
    """Made by a wheel out of a source archive; with a tiny recipe, and packages for its environment."""
    source = source_tree(folder / "source", EARLIER)
    wheel = build(archive(source, folder / "archive"), folder / "wheel")
    retrainer(wheel, folder, "new", "demo")
    project = folder / "demo"
    (project / "recipes/tiny.yaml").write_text(TINY)
    draw_stripes(project / "data/stripes", rows=160)
    # The packages that `make setup` would download are these.
    packages = project / f".venv/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    packages.mkdir(parents=True)
    (packages / "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    commit(project)
    return project


def make(project: Path, *words: str) -> str:
    done = subprocess.run(
        ["make", f"PYTHON={sys.executable}", *words],
        cwd=project,
        env=environment() | {"RETRAINER_MLFLOW_TEMPLATE": str(template_path())},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_project_of_the_last_release_runs_and_becomes_one_of_this(tmp_path: Path, wheel: Path) -> None:
    project = project_of_last_release(tmp_path)
    assert steps(make(project, "pipeline", "RECIPE=tiny")) == dict.fromkeys(ORDER, "ran")
    command = [project / ".venv/bin/retrainer", "--version"]
    assert subprocess.run(command, capture_output=True, text=True).stdout == f"retrainer {RELEASE}\n"
    assert make(project, "resolve", "RECIPE=tiny", "-n").startswith(".venv/bin/python -m pipelines resolve")
    for name, (old, new) in MINE.items():
        (project / name).write_text((project / name).read_text().replace(old, new))
    (project / "recipes/cifar10.yaml").unlink()
    commit(project)

    said = retrainer(wheel, project, "upgrade").splitlines()
    assert said[0] == f"Retrainer {RELEASE} → {__version__}"
    assert said[1 : said.index("")] == [
        "  merged    Makefile",
        "  updated   components/register.py",
        "  merged    recipes/digits-mlp.yaml",
        "  updated   requirements.lock",
    ]
    makefile, recipe = (project / "Makefile").read_text(), (project / "recipes/digits-mlp.yaml").read_text()
    assert "\nmine: ##" in makefile and "how many more a better figure" in makefile
    assert "  epochs: 50\n" in recipe and "  hidden: [256, 64]\n" in recipe
    assert (project / "requirements.lock").read_bytes() == (ROOT / "requirements.lock").read_bytes()
    assert not (project / "recipes/cifar10.yaml").exists()
    assert make(project, "mine") == "mine\n"
    assert "Setting up .venv" in make(project, "resolve", "RECIPE=tiny", "-n"), "with the newer library"


@pytest.mark.slow
def test_steps_say_the_same_by_a_wheel_as_in_a_clone(wheel: Path, tmp_path: Path) -> None:
    """So that a project which moves from the one to the other trains nothing again."""
    retrainer(wheel, tmp_path, "new", "demo")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site-packages")
    sections = {name: section.plain() for name, section in settle("digits-mlp", [], ROOT)[1].items()}
    here = project_code(ROOT)
    there = Modules(
        {**here.folders, "retrainer": tmp_path / "site-packages", "components": tmp_path / "demo"}, here.apart
    )
    digests = [step_digests(STEPS, sections, code, ROOT) for code in (here, there)]
    assert digests[0] == digests[1] and len(set(digests[0].values())) == len(STEPS)
