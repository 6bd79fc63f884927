"""Wheels of this project, built without a network from a copy of what git would have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.conftest import ROOT

SECRET = b"a secret of this machine"
# Where a checkout may have what belongs to one person alone.
_OF_A_PERSON = (
    *("docker/.env", ".dvc/config.local", "plugins/mine.py"),
    *("data/rows.csv", "weights/x.safetensors", "mlflow.db", "recipes/private.yaml", "deploy/secret.yaml"),
)
_NOT_SHIPPED = ("tests/", "benchmarks/")


def tracked() -> list[str]:
    """The files of this checkout, but for those that git ignores."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(name for name in names if (ROOT / name).is_file())


def source_tree(folder: Path, edits: Mapping[str, tuple[str, str]]) -> Path:
    """A copy of the files that a wheel is made of, among files of a person with `SECRET` in them.

    edits: file → a text of it, and what replaces that.
    """
    for name in tracked():
        if not name.startswith(_NOT_SHIPPED):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    for name, (old, new) in edits.items():
        text = (folder / name).read_text()
        assert text.count(old) == 1, f"{name}: {old}"
        (folder / name).write_text(text.replace(old, new))
    git(folder, "init", "--quiet")
    commit(folder)
    for name in _OF_A_PERSON:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(SECRET)
    return folder


def build(source: Path, into: Path) -> Path:
    """The wheel of a source tree, or of a source archive."""
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(into)]
    pip(*words, str(source))
    (wheel,) = into.glob("*.whl")
    return wheel


def archive(source: Path, into: Path) -> Path:
    """The source archive (sdist) of a source tree."""
    code = f"import setuptools.build_meta as backend; backend.build_sdist({str(into)!r})"
    into.mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, check=True)
    (made,) = into.glob("*.tar.gz")
    return made


def pip(*words: str) -> None:
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [sys.executable, "-m", "pip", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def retrainer(library: Path, here: Path, *words: str, status: int = 0) -> str:
    """`python -m retrainer …` by a wheel, or where it is installed, and a Python without other packages."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "retrainer", *words],
        cwd=here,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(library)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, f"{words}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def git(here: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *words]
    return subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout


def commit(here: Path) -> None:
    git(here, "add", "--all")
    git(here, "commit", "--quiet", "--message", "mine")


def contents(here: Path) -> dict[str, bytes]:
    """Path → content of every file that lies in a project, but for git's own."""
    files = [path for path in sorted(here.rglob("*")) if path.is_file() and ".git" not in path.parts]
    return {path.relative_to(here).as_posix(): path.read_bytes() for path in files}
