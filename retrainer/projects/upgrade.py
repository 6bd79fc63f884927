"""`retrainer upgrade`, by a newer Retrainer in a project's root: its files, and what the project changed.

Nothing is lost: the project must have no uncommitted change, and what is written is staged, so that
`git reset --hard` takes the whole upgrade back.
"""

from __future__ import annotations

import re
from pathlib import Path

from retrainer.errors import SettingError
from retrainer.projects.merge import Change, changes, said
from retrainer.projects.project import RECORD, Origin, base_of, git, keep_library, read_origin, write_file
from retrainer.projects.template import Template, of_this_library, wheel_name
from retrainer.projects.wheel import packed

# The first version that made projects.
OLDEST = "0.1.0"


def upgrade(root: Path, dry_run: bool = False) -> tuple[list[str], int]:
    """What to say, and the exit status: 1 where a file has a conflict, which a person must settle.

    Raises UserError, with nothing written, where this Retrainer cannot upgrade the project as it is.
    """
    newer, origin = of_this_library(), read_origin(root)
    _check_versions(origin, newer)
    base, wheel = base_of(root, origin), packed()
    if origin.wheel(root).read_bytes() == wheel:
        return [_nothing_to_do(newer.version)], 0
    found = changes(base, newer, root)
    title = f"Retrainer {origin.version} → {newer.version}"
    lines = [f"{title}, of which nothing was written yet" if dry_run else title, *said(found)]
    status = int(any(change.conflict for change in found))
    if dry_run:
        return lines, status
    _check_git(root, found)
    try:
        _write(root, found, newer.version, wheel)
    except OSError as error:
        raise SettingError(
            f"{error.filename}: {error.strerror}; git reset --hard takes back the rest"
        ) from None
    return [*lines, "", *_next(found)], status


def _nothing_to_do(version: str) -> str:
    return (
        f"nothing to do: the project is of Retrainer {version}, the one that runs; to get a newer one:"
        f" PYTHONPATH={wheel_name('VERSION')} python3 -m retrainer upgrade"
    )


def _check_versions(origin: Origin, newer: Template) -> None:
    if _release(origin.version) < _release(OLDEST):
        raise SettingError(
            f"{RECORD}: the project is of Retrainer {origin.version}, and the oldest that can be upgraded is"
            f" {OLDEST}: make a new project, and copy recipes/ and plugins/ into it"
        )
    if _release(origin.version) > _release(newer.version):
        raise SettingError(
            f"{RECORD}: the project is of Retrainer {origin.version}, and the one that runs is older"
            f" ({newer.version}): run {origin.version} or a newer one"
        )


def _release(version: str) -> tuple[int, ...]:
    """Its numbers; what stands behind them, as in 0.2.0rc1, does not count."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, numbers[0].split("."))) if numbers else ()


def _check_git(root: Path, found: list[Change]) -> None:
    """Raises UserError where `git reset --hard` would not bring back all that the upgrade changes."""
    if git(root, "ls-files", "--error-unmatch", str(RECORD)).returncode:
        raise SettingError(
            "the project is not in git yet: git init && git add --all && git commit --message start, then"
            " this again"
        )
    changed = git(root, "status", "--porcelain", "--untracked-files=no").stdout.decode(errors="replace")
    if changed:
        first = changed.splitlines()[0][3:]
        raise SettingError(
            f"{first} has changes that are not committed, and an upgrade leaves a way back: git commit or git"
            " stash, then this again"
        )
    for path in [change.path for change in found if change.writes and (root / change.path).exists()]:
        if git(root, "ls-files", "--error-unmatch", path).returncode:
            raise SettingError(
                f"{path} is not in git, and an upgrade leaves a way back: git add --force {path} && git"
                " commit, then this again"
            )


def _write(root: Path, found: list[Change], version: str, wheel: bytes) -> None:
    """A file with marked conflicts is not staged: `git diff` shows it alone, `git commit` leaves it out."""
    for change in found:
        if change.content is not None:
            write_file(root / change.path, change.content)
        elif change.writes:
            (root / change.path).unlink()
    staged = [change.path for change in found if change.writes and change.conflict != "marked"]
    kept = [str(path) for path in keep_library(root, version, wheel)]
    if git(root, "update-index", "--add", "--remove", "--", *staged, *kept).returncode:
        raise SettingError(
            "git could not stage what was written: git status shows it, git add --all stages it"
        )


def _next(found: list[Change]) -> list[str]:
    """What a person does now."""
    open_conflicts = sum(bool(change.conflict) for change in found)
    settle = (
        f"settle {open_conflicts} conflict{'s' * (open_conflicts > 1)}, which stand above, then "
        if open_conflicts
        else ""
    )
    return [
        f"next: {settle}look at it by git diff HEAD, and git commit --all",
        "to undo it all: git reset --hard",
    ]
