"""What an upgrade does to each file: a three-way merge of its origin, the project's, and the newer one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from retrainer.errors import SettingError
from retrainer.projects.project import WRITTEN_BY_RUNS, git
from retrainer.projects.template import Template
from retrainer.texts import plural

# What git merge-file returns at most where it counts conflicts: above, it could not merge.
_MOST_CONFLICTS = 127
BESIDE = ".new"


@dataclass(frozen=True)
class Change:
    """What happens to one file, in a word, and the reason where the word does not say it.

    content: what will lie at `path`; None where nothing will. writes: whether anything is to be done.
    conflict: what a person must settle: `marked` inside of the file, or by a second file `beside` it.
    """

    path: str
    word: str
    why: str = ""
    content: bytes | None = None
    writes: bool = True
    conflict: Literal["", "marked", "beside"] = ""


def changes(base: Template, newer: Template, root: Path) -> list[Change]:
    """One for each file that differs between base and newer; not for those that the project has as in newer.

    Raises UserError where a folder or a link is in the way of a file.
    """
    paths = sorted({*base.files, *newer.files} - {WRITTEN_BY_RUNS})
    differing = [path for path in paths if base.files.get(path) != newer.files.get(path)]
    found = [_change(path, base, newer, root) for path in differing]
    return [change for change in found if change is not None]


def _change(path: str, base: Template, newer: Template, root: Path) -> Change | None:
    old, new = base.files.get(path), newer.files.get(path)
    mine = _read(root, path)
    if mine == new:
        return None
    if mine == old:
        return Change(path, "removed" if new is None else "added" if old is None else "updated", content=new)
    if mine is None:
        return Change(path, "left out", f"you have deleted it; {newer.version} changed it", writes=False)
    if new is None:
        return Change(path, "kept", f"you have changed it; {newer.version} no longer has it", writes=False)
    if old is None:
        return _beside(path, root, new, f"{path} is your own; {newer.version} brings one, too")
    return _merged(path, root, (mine, old, new), (base.version, newer.version))


def _read(root: Path, path: str) -> bytes | None:
    """The project's file, None where there is none. Raises UserError for what is no file of the project."""
    for place in (*reversed(Path(path).parents), Path(path)):
        if (root / place).is_symlink():
            raise SettingError(f"{place} is a link, and an upgrade writes into the project alone: replace it")
        if (root / place).is_dir() == (place == Path(path)) and (root / place).exists():
            raise SettingError(f"{place} is in the way of the file {path}: move it")
    file = root / path
    return file.read_bytes() if file.is_file() else None


def _merged(path: str, root: Path, texts: tuple[bytes, bytes, bytes], versions: tuple[str, str]) -> Change:
    """`texts`: the project's, the origin's and the newer one."""
    with tempfile.TemporaryDirectory() as scratch:
        labels = ("yours", *(f"Retrainer {version}" for version in versions))
        for name, text in zip("mon", texts, strict=True):
            Path(scratch, name).write_bytes(text)
        words = [word for label in labels for word in ("-L", label)]
        done = git(Path(scratch), "merge-file", "-p", *words, "m", "o", "n")
    if done.returncode == 0:
        return Change(path, "merged", content=done.stdout)
    if done.returncode < 0:
        raise SettingError(f"git merge-file was killed at {path}: nothing was written; run it again")
    if done.returncode > _MOST_CONFLICTS:
        return _beside(path, root, texts[2], "both sides changed it, and it is no text")
    why = f"{plural(done.returncode, 'place')} between <<<<<<< and >>>>>>>"
    return Change(path, "conflict", why, done.stdout, conflict="marked")


def _beside(path: str, root: Path, content: bytes, why: str) -> Change:
    """The newer file under another name, and the project's as it is."""
    place = f"{path}{BESIDE}"
    if (root / place).exists() or (root / place).is_symlink():
        raise SettingError(f"{place} is here from an earlier upgrade, or is yours: move it")
    return Change(place, "conflict", why, content, conflict="beside")


def said(found: list[Change]) -> Iterator[str]:
    """A line a file, conflicts last."""
    for change in sorted(found, key=lambda each: (bool(each.conflict), each.path)):
        yield f"  {change.word:9} {change.path}" + (f": {change.why}" if change.why else "")
