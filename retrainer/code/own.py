"""A user's own code, plug-ins and trainers, as digests that settings carry."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shlex
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from retrainer.code.modules import Modules
from retrainer.errors import SettingError
from retrainer.formats.files import sha256_file

PLUGINS = "plugins"
# Packages at the project's root that digests of steps cover, or that no training imports.
_THE_PROJECTS = {"retrainer", "components", "pipelines", "tests", "benchmarks", PLUGINS}


def plugin_digest(name: str, code: Modules) -> str:
    """Sha256 of a plug-in's code, empty for a built-in name."""
    return _digest(plugin_files(name), code)


def plugin_files(name: str) -> list[Path]:
    """Every file of a plug-in's top-level package, as it may import any of them; none for a built-in name."""
    return _installed(name.partition(".")[0]) if "." in name else []


def command_digest(command: str, root: Path, code: Modules) -> str:
    """Sha256 of the code that a trainer's command runs (`command_files`), empty for no command."""
    return _digest(command_files(command, root), code) if command else ""


def command_files(command: str, root: Path) -> list[Path]:
    """The files that the command names, Python files beside or below a named script or module, `plugins/`.

    Raises UserError for a command that names no code, as an edit of it could not be noticed.
    """
    words = _split(command)
    named = [path for word in words for path in _named(word, root)]
    code = [path for before, word in pairwise(words) if before == "-m" for path in _module(word, root)]
    code += [path for script in named for path in _beside(script, root)]
    if not named and not code:
        raise SettingError(
            f"training.command: {command!r} names no file here and no module, so that an edit of your trainer"
            " could not be noticed; write it as `python path/to/script.py` or `python -m package.module`"
        )
    return [*named, *code, *_below(root / PLUGINS)]


def _split(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise SettingError(f"training.command: {command!r} cannot be split into words: {error}") from None
    # Which Python runs it is the environment's matter.
    return words[1:] if words and Path(words[0]).name.startswith("python") else words


def _named(word: str, root: Path) -> list[Path]:
    """The file that a word of a command names, also behind the sign of `--config=train.yaml`."""
    return [root / name for name in {word, word.partition("=")[2]} if name and (root / name).is_file()]


def _module(name: str, root: Path) -> list[Path]:
    """The code behind `python -m name`: a file or package of the project, else an installed one."""
    top = name.partition(".")[0]
    if (root / f"{top}.py").is_file():
        return _beside(root / f"{top}.py", root)
    return _below(root / top) or _installed(top)


def _beside(script: Path, root: Path) -> list[Path]:
    """What a script finds first when it imports: everything below its folder; at the root, the user's own."""
    if script.suffix not in (".py", ".sh", ""):
        return []
    if script.parent.resolve() != root.resolve():
        return _below(script.parent)
    packages = [p.parent for p in root.glob("*/__init__.py") if p.parent.name not in _THE_PROJECTS]
    return [*root.glob("*.py"), *(path for package in packages for path in _below(package))]


def _below(folder: Path) -> list[Path]:
    return list(folder.rglob("*.py"))


def _installed(top: str) -> list[Path]:
    """The Python files of an importable package or module, which is not imported for that."""
    spec = importlib.util.find_spec(top) if top.isidentifier() else None
    if spec is None:
        return []
    places = list(spec.submodule_search_locations or ())
    alone = [Path(spec.origin)] if spec.origin and not places else []
    return [
        *(path for path in alone if path.is_file()),
        *(p for place in places for p in _below(Path(place))),
    ]


def _digest(files: Iterable[Path], code: Modules) -> str:
    """Over what the files say and their places, relative to the folder that all share; empty for no file."""
    found = sorted({path.resolve() for path in files})
    if not found:
        return ""
    shared = Path(os.path.commonpath([path.parent for path in found]))
    digest = hashlib.sha256()
    for path in found:
        digest.update(f"{path.relative_to(shared).as_posix()}\0{_said(path, code)}\n".encode())
    return digest.hexdigest()


def _said(path: Path, code: Modules) -> str:
    """The digest of the syntax where the file is Python and not installed, of the bytes where it is not."""
    if path.suffix == ".py" and "site-packages" not in path.parts:
        with contextlib.suppress(SyntaxError, ValueError):
            return " ".join(part.digest for part in code.source_of(path))
    return sha256_file(path)
