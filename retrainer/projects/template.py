"""The files of a new project, as one version of Retrainer has them: retrainer/template/ of its wheel."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

from retrainer import __version__
from retrainer.errors import SettingError

LIBRARY = "retrainer"
_FOLDER = "template"


@dataclass(frozen=True)
class Template:
    """files: path below the project's root, with slashes → content."""

    version: str
    files: Mapping[str, bytes]


def of_this_library() -> Template:
    """What the running Retrainer has. Raises UserError in a checkout, which has no such copy."""
    folder = resources.files(LIBRARY) / _FOLDER
    if not folder.is_dir():
        raise SettingError(
            "this is a checkout of Retrainer, and its wheel makes and upgrades projects: make wheel, then, in"
            f" another folder, PYTHONPATH=…/build/dist/{wheel_name(__version__)} python3 -m retrainer …"
        )
    return Template(__version__, dict(_below(folder, PurePosixPath())))


def _below(folder: Traversable, place: PurePosixPath) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_file():
            yield str(place / entry.name), entry.read_bytes()
        elif entry.name != "__pycache__":  # pip compiles what it installs
            yield from _below(entry, place / entry.name)


def of_wheel(wheel: Path, version: str) -> Template:
    """What the Retrainer in a wheel has. Raises UserError for a file that is no such wheel."""
    prefix = f"{LIBRARY}/{_FOLDER}/"
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith(prefix) and name[-1] != "/"]
            files = {name.removeprefix(prefix): archive.read(name) for name in names}
    except (OSError, zipfile.BadZipFile) as error:
        raise SettingError(f"{wheel}: this is no wheel of Retrainer ({error})") from None
    if outside := [name for name in files if _leads_outside(name)]:
        raise SettingError(f"{wheel}: {outside[0]} would lie outside of the project")
    return Template(version, files)


def _leads_outside(name: str) -> bool:
    return PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts


def wheel_name(version: str) -> str:
    return f"{LIBRARY}-{version}-py3-none-any.whl"
