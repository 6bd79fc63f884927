"""`retrainer new PROJECT`: a project in a folder of its own, which runs on this version of the library."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

from retrainer.errors import SettingError
from retrainer.projects.project import git, keep_library, write_file
from retrainer.projects.template import Template, of_this_library
from retrainer.projects.wheel import packed


def new(place: Path) -> list[str]:
    """Makes the project, and a git repository where it is none; returns what to say.

    Nothing that is there is replaced: raises UserError where a file is in the way, or the folder lies within
    another git repository, as a project is a repository of its own.
    """
    template = of_this_library()
    _check(place, template)
    wheel = packed()
    try:
        if place.exists():
            _write(place, template, wheel)
        else:
            _write_aside(place, template, wheel)
    except OSError as error:
        raise SettingError(f"{error.filename or place}: {error.strerror}") from None
    return [
        f"{place}: {len(template.files)} files of Retrainer {template.version}; README.md says what for",
        "",
        f"next: cd {shlex.quote(str(place))} && git add --all && git commit --message start",
        "then: make pipeline, or make init DATA=path for your own data",
    ]


def _check(place: Path, template: Template) -> None:
    if place.exists() and not place.is_dir():
        raise SettingError(f"{place} is there already, and no folder: choose another name")
    tops = sorted({path.partition("/")[0] for path in template.files} | {".retrainer"})
    there = [top for top in tops if os.path.lexists(place / top) and top != ".git"]
    if there:
        raise SettingError(f"{place / there[0]} is there already: move it away, or choose another folder")
    nearest = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.is_dir())
    found = git(nearest, "rev-parse", "--show-toplevel")
    top = Path(os.fsdecode(found.stdout.strip(b"\n")))
    if found.returncode == 0 and top.resolve() != place.resolve():
        raise SettingError(
            f"{place} would lie within the git repository {top}, and a project is a repository of its own:"
            " choose a folder outside"
        )


def _write_aside(place: Path, template: Template, wheel: bytes) -> None:
    aside = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        _write(aside, template, wheel)
        aside.rename(place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(place: Path, template: Template, wheel: bytes) -> None:
    for path, content in template.files.items():
        write_file(place / path, content)
    keep_library(place, template.version, wheel)
    if not (place / ".git").exists() and git(place, "init", "--quiet").returncode:
        raise SettingError(f"{place}: git init failed there")
