"""The wheel: what is in it, and the project that it makes where nothing else is installed."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from retrainer import __main__ as command_line
from retrainer import __version__
from retrainer.commands import GROUPS, OF_PROJECTS
from retrainer.projects.template import of_wheel
from tests.conftest import ROOT
from tests.wheels import SECRET, commit, contents, git, retrainer, tracked

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OTHERS = {"README.md", ".github/workflows/ci.yml", "recipes/stages.json"}
# Of this repository's files, what a project has, too.
WHOLE = ("recipes/", "components/", "pipelines/", "plugins/", "docker/", "deploy/", ".ci/containers")
SINGLE = {"params.yaml", "dvc.yaml", "Makefile", "requirements.lock", ".gitignore"}
SINGLE |= {".dvcignore", ".dvc/config", ".dvc/.gitignore"}
_MOST_BYTES = 3_000_000


@pytest.fixture(scope="session")
def started(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new project. Work in a copy of it."""
    place = tmp_path_factory.mktemp("started") / "demo"
    retrainer(wheel, place.parent, "new", "demo")
    return place


# --- the wheel -------------------------------------------------------------------------------------------


def test_it_holds_the_library_and_the_files_of_a_project_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    files = set(of_wheel(wheel, __version__).files)
    known = set(tracked())
    library = {name for name in names if name.startswith("retrainer/") and "/template/" not in name}
    assert library == {name for name in known if name.startswith("retrainer/")}
    described = {name for name in names if ".dist-info/" in name}
    assert set(names) == library | {f"retrainer/template/{name}" for name in files} | described
    whole = {name for name in known if name.startswith(WHOLE) or name in SINGLE}
    pages = {name for name in known if re.fullmatch(r"docs/(.*\.md|images/[^/]*\.png)", name)}
    assert files == whole | pages | OTHERS
    assert "docs/reference.md" in files and "docs/decisions/0038-projects-and-upgrades.md" in files


def test_nothing_of_this_machine_comes_in(wheel: Path) -> None:
    """What a checkout has beside the files of git stays out, ignored or not."""
    with zipfile.ZipFile(wheel) as opened:
        assert not [name for name in opened.namelist() if SECRET in opened.read(name)]


def test_it_is_small(wheel: Path) -> None:
    largest = max(zipfile.ZipFile(wheel).infolist(), key=lambda entry: entry.compress_size)
    assert wheel.stat().st_size < _MOST_BYTES, (
        f"the largest: {largest.filename}, {largest.compress_size} bytes"
    )


def test_it_asks_for_what_pyproject_says(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        about = message_from_bytes(opened.read(f"retrainer-{__version__}.dist-info/METADATA"))
        scripts = opened.read(f"retrainer-{__version__}.dist-info/entry_points.txt").decode()
        licences = [name for name in opened.namelist() if name.endswith("licenses/LICENSE")]
    assert (
        about["Version"] == PROJECT["version"] == __version__ and about["License-Expression"] == "Apache-2.0"
    )
    asked = [Requirement(text) for text in about.get_all("Requires-Dist")]
    plain = {str(each) for each in asked if each.marker is None}
    assert plain == {str(Requirement(text)) for text in PROJECT["dependencies"]}
    assert set(about.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])
    assert scripts.split() == ["[console_scripts]", "retrainer", "=", PROJECT["scripts"]["retrainer"]]
    assert len(licences) == 1


def test_the_command_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"retrainer {__version__}\n")


# --- a new project ---------------------------------------------------------------------------------------


def test_it_needs_no_package_and_keeps_its_library(wheel: Path, started: Path) -> None:
    files = of_wheel(wheel, __version__).files
    kept = f".retrainer/retrainer-{__version__}-py3-none-any.whl"
    assert set(contents(started)) == {*files, kept, ".retrainer/template.json"}
    assert all((started / path).read_bytes() == content for path, content in files.items())
    ours, theirs = (
        {
            entry.filename: entry.CRC
            for entry in zipfile.ZipFile(path).infolist()
            if "RECORD" not in entry.filename
        }
        for path in (started / kept, wheel)
    )
    assert ours == theirs
    said = retrainer(started / kept, started, "upgrade", "--dry-run")
    assert said.startswith("nothing to do"), (
        "the wheel that is kept can make projects again, the same to the byte"
    )


def test_git_would_take_all_of_it(started: Path, tmp_path: Path) -> None:
    """Also the wheel, where a person's own rules ignore such files."""
    project = Path(shutil.copytree(started, tmp_path / "demo"))
    (project / ".git/info/exclude").write_text("*.whl\n")
    commit(project)
    assert set(git(project, "ls-files").splitlines()) == set(contents(project))
    assert os.access(project / "docker/install", os.X_OK) and not os.access(project / "Makefile", os.X_OK)
    assert stat.S_IMODE((project / ".ci/containers").stat().st_mode) == 0o755


def test_its_make_has_the_commands_of_a_project_and_no_others(started: Path) -> None:
    done = subprocess.run(["make", "help"], cwd=started, capture_output=True, text=True, check=True)
    targets = re.findall(r"^  make ([a-z-]+) ", done.stdout, re.M)
    commands = [c.name for title, group in GROUPS.items() if title != OF_PROJECTS for c in group]
    assert sorted(targets) == sorted([*commands, "help", "setup", "clean"])
    phony = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", (started / "Makefile").read_text(), re.M)
    assert phony and sorted(phony[1].replace("\\", " ").split()) == sorted(targets)


def test_its_ci_calls_commands_that_are_there(started: Path) -> None:
    jobs = yaml.safe_load((started / ".github/workflows/ci.yml").read_text())["jobs"]
    words = [word for job in jobs.values() for step in job["steps"] for word in [step.get("run", "")]]
    called = {name for text in words for name in re.findall(r"\bmake ([a-z-]+)", text)}
    makefile = (started / "Makefile").read_text()
    assert called == {"setup", "doctor", "smoke"}
    assert all(f"\n{name}: $(READY)" in makefile for name in called)


def test_its_pages_link_to_files_that_it_has(started: Path) -> None:
    pages = sorted(started.rglob("*.md"))
    dead = [
        f"{page.relative_to(started)}: {link}"
        for page in pages
        for link in re.findall(r"\]\((?!https?://|mailto:|#)([^)#\s]+)", page.read_text())
        if not (page.parent / link).exists()
    ]
    assert len(pages) > 30 and not dead
    said = "careless months (`benchmarks/trust/README.md` of Retrainer's repository)"
    assert said in (started / "docs/trust.md").read_text()


def test_its_images_get_the_library_from_the_wheel(started: Path, tmp_path: Path) -> None:
    """By the commands of the Dockerfile, run here in the place of /app."""
    text = (started / "docker/Dockerfile").read_text()
    assert "COPY retrainer " not in text and "COPY .retrainer/*.whl /tmp/library/\n" in text
    rules = (started / "docker/Dockerfile.dockerignore").read_text().splitlines()
    assert "!.retrainer" in rules and "!retrainer" not in rules
    (command,) = re.findall(r"^RUN (python -m zipfile(?:.*\\\n)*.*)$", text, re.M)
    app, library = tmp_path / "app", tmp_path / "library"
    app.mkdir()
    library.mkdir()
    shutil.copy(next((started / ".retrainer").glob("*.whl")), library)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        ["sh", "-c", command.replace("/tmp/library", str(library))], cwd=app, env={"PATH": path}, check=True
    )
    assert set(contents(app)) == {name for name in tracked() if name.startswith("retrainer/")}


def test_the_images_record_notices_another_library(started: Path, tmp_path: Path) -> None:
    from pipelines.containers.images import code_digest

    project = Path(shutil.copytree(started, tmp_path / "demo"))
    before = code_digest(project)
    next((project / ".retrainer").glob("*.whl")).write_bytes(b"another")
    assert code_digest(project) != before


@pytest.mark.parametrize(
    ("prepared", "place", "says"),
    [
        ("demo/params.yaml", "demo", "demo/params.yaml is there already"),
        ("demo/.retrainer/x", "demo", "demo/.retrainer is there already"),
        ("demo", "demo", "demo is there already, and no folder"),
        ("outer/.git/", "outer/demo", "would lie within the git repository"),
    ],
)
def test_nothing_that_is_there_is_replaced(
    wheel: Path, tmp_path: Path, prepared: str, place: str, says: str
) -> None:
    if prepared.endswith("/.git/"):
        (tmp_path / "outer").mkdir()
        git(tmp_path / "outer", "init", "--quiet")
    else:
        (tmp_path / prepared).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / prepared).write_text("mine")
    before = contents(tmp_path)
    said = retrainer(wheel, tmp_path, "new", place, status=2)
    assert says in said and len(said.splitlines()) == 1
    assert contents(tmp_path) == before and not (tmp_path / "outer/demo").exists()


def test_an_installation_makes_the_same_project_unless_it_was_altered(
    wheel: Path, started: Path, tmp_path: Path
) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "lib")  # what pip does, but for what it adds
    git(tmp_path, "init", "--quiet", "demo")
    retrainer(tmp_path / "lib", tmp_path / "demo", "new", ".")
    assert contents(tmp_path / "demo") == contents(started)
    with (tmp_path / "lib/retrainer/errors.py").open("a") as altered:
        altered.write("# mine\n")
    said = retrainer(tmp_path / "lib", tmp_path, "new", "other", status=2)
    assert re.search(r"errors\.py was altered; install it again", said) and not (tmp_path / "other").exists()
