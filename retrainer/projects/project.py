"""What a project keeps of the Retrainer that made it, in .retrainer/: the wheel, and template.json."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from retrainer.errors import SettingError
from retrainer.formats.files import sha256_file, write_bytes, write_json
from retrainer.projects.template import Template, of_wheel, wheel_name

FOLDER = Path(".retrainer")
RECORD = FOLDER / "template.json"
FORMAT_VERSION = 1
# Runs write it, so that it is the project's own from the first day.
WRITTEN_BY_RUNS = "recipes/stages.json"

_VERSION = re.compile(r"\d+(\.\d+)*[A-Za-z0-9.+]*")
_GIT_SECONDS = 60


@dataclass(frozen=True)
class Origin:
    """The Retrainer whose files the project has: its version, and the sha256 of its wheel."""

    version: str
    wheel_sha256: str

    def wheel(self, root: Path) -> Path:
        return root / FOLDER / wheel_name(self.version)


def read_origin(root: Path) -> Origin:
    """Raises UserError where there is no template.json, or its format is newer than this Retrainer's."""
    path = root / RECORD
    if not path.is_file():
        raise SettingError(
            f"there is no {RECORD} here: run this in the root of a project that `retrainer new` has made (a"
            " clone of Retrainer's repository is brought up to date by git pull)"
        )
    try:
        found = json.loads(path.read_bytes())
        form, version, sha256 = found["format_version"], str(found["version"]), str(found["wheel_sha256"])
    except (ValueError, KeyError, TypeError):
        raise SettingError(f"{RECORD} is not what retrainer new writes: git checkout {RECORD}") from None
    if form != FORMAT_VERSION:
        raise SettingError(
            f"{RECORD} has format {form}, and this Retrainer knows {FORMAT_VERSION}: use a newer one"
        )
    if not _VERSION.fullmatch(version):
        raise SettingError(f"{RECORD}: {version!r} is no version: git checkout {RECORD}")
    return Origin(version, sha256)


def base_of(root: Path, origin: Origin) -> Template:
    """The files as they were when they came. Raises UserError for a wheel that is gone or was altered."""
    path = origin.wheel(root)
    if not path.is_file() or sha256_file(path) != origin.wheel_sha256:
        here = path.relative_to(root)
        state = "has other content than" if path.is_file() else "is not here, though it is named in"
        raise SettingError(f"{here} {state} {RECORD}: git checkout {FOLDER}")
    return of_wheel(path, origin.version)


def library_files(root: Path, version: str) -> list[str]:
    """What `keep_library` writes and removes, below the root."""
    wheels = {(root / FOLDER / wheel_name(version)), *(root / FOLDER).glob("*.whl")}
    return [str(RECORD), *sorted(str(path.relative_to(root)) for path in wheels)]


def keep_library(root: Path, version: str, wheel: bytes) -> None:
    """Puts the wheel and its record in the place of earlier ones."""
    kept = Origin(version, hashlib.sha256(wheel).hexdigest())
    before = [path for path in (root / FOLDER).glob("*.whl") if path != kept.wheel(root)]
    write_file(kept.wheel(root), wheel)
    for path in before:
        path.unlink()
    write_json(
        root / RECORD,
        {"format_version": FORMAT_VERSION, "version": version, "wheel_sha256": kept.wheel_sha256},
    )


def write_file(path: Path, content: bytes) -> None:
    """A program can be run, and what is there keeps its mode."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o755 if content.startswith(b"#!") else 0o644
    write_bytes(path, content)
    path.chmod(mode)


def git(root: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Raises UserError without git; its exit status is the caller's to look at."""
    try:
        return subprocess.run(
            ["git", *words], cwd=root, capture_output=True, timeout=_GIT_SECONDS, check=False
        )
    except FileNotFoundError:
        raise SettingError("git was not found, and a project is a git repository: install git") from None
