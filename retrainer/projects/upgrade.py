"""`retrainer upgrade`, by a newer Retrainer in a project's root: its files, and what the project changed.

Nothing is lost: the project must have no uncommitted change, and what is written is staged, so that
`git reset --hard` takes the whole upgrade back.
"""

from __future__ import annotations

import re
from pathlib import Path

from retrainer.errors import SettingError
from retrainer.projects.merge import Change, changes, said
from retrainer.projects.project import (
    RECORD,
    Origin,
    base_of,
    git,
    keep_library,
    library_files,
    read_origin,
    write_file,
)
from retrainer.projects.template import Template, of_this_library, wheel_name
from retrainer.projects.wheel import packed

# The first version that made projects.
OLDEST = "0.1.0"


def upgrade(root: Path, dry_run: bool = False) -> tuple[list[str], int]:
    """What to say, and the exit status: 1 where a file has a conflict, which a person must settle.

    Raises UserError where this Retrainer cannot upgrade the project as it is, with nothing written, and where
    a file cannot be written: then what was written is staged.
    """
    newer, origin = of_this_library(), read_origin(root)
    _check_versions(origin, newer)
    base, wheel = base_of(root, origin), packed()
    if origin.wheel(root).read_bytes() == wheel:
        return [_nothing_to_do(newer.version)], 0
    found = changes(base, newer, root)
    title = f"Retrainer {origin.version} → {newer.version}"
    lines = [f"{title} (dry run: nothing was written)" if dry_run else title, *said(found)]
    status = int(any(change.conflict for change in found))
    if dry_run:
        return lines, status
    _check_git(root, origin, found)
    library = library_files(root, newer.version)
    try:
        _write(root, found, newer.version, wheel)
    except OSError as error:
        raise SettingError(f"{error.filename}: {error.strerror}; undo the rest by git reset --hard") from None
    finally:  # also of an upgrade that stopped half-way
        _stage(root, found, library)
    return [*lines, "", *_next(found)], status


def _nothing_to_do(version: str) -> str:
    return (
        f"nothing to do: this project already has Retrainer {version}; to get a newer one:"
        f" PYTHONPATH={wheel_name('VERSION')} python3 -m retrainer upgrade"
    )


def _check_versions(origin: Origin, newer: Template) -> None:
    if _numbers(origin.version) < _numbers(OLDEST):
        raise SettingError(
            f"{RECORD}: the project is of Retrainer {origin.version}, and the oldest that can be upgraded is"
            f" {OLDEST}: make a new project, and copy recipes/ and plugins/ into it"
        )
    if _order(origin.version) > _order(newer.version):
        raise SettingError(
            f"{RECORD}: the project is of Retrainer {origin.version}, and the one that runs is older"
            f" ({newer.version}): run {origin.version} or a newer one"
        )


def _numbers(version: str) -> tuple[int, ...]:
    """1.0 and 1.0.0 are the same."""
    found = re.match(r"\d+(\.\d+)*", version)
    numbers = list(map(int, found[0].split("."))) if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _order(version: str) -> tuple[tuple[int, ...], bool]:
    """0.2.0rc1 comes before 0.2.0."""
    return _numbers(version), re.fullmatch(r"[\d.]+", version) is not None


def _check_git(root: Path, origin: Origin, found: list[Change]) -> None:
    """Raises UserError where `git reset --hard` would not bring back all that the upgrade changes."""
    asked = git(root, "rev-parse", "--git-dir")
    if asked.returncode and (root / ".git").exists():
        raise SettingError(
            f"git cannot read this repository: {asked.stderr.decode(errors='replace').strip()}"
        )
    library = [str(RECORD), str(origin.wheel(root).relative_to(root))]
    if git(root, "ls-files", "--error-unmatch", *library).returncode:
        raise SettingError(
            f"the project is not in git yet, or not its {library[1]}: git init && git add --all && git add"
            " --force .retrainer && git commit --message start, then this again"
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
    keep_library(root, version, wheel)


def _stage(root: Path, found: list[Change], library: list[str]) -> None:
    """What is staged, `git reset --hard` removes, added files too."""
    staged = [change.path for change in found if change.writes and change.conflict != "marked"]
    if git(root, "update-index", "--add", "--remove", "--", *staged, *library).returncode:
        raise SettingError(
            "git could not stage what was written: git status shows it, git add --all stages it"
        )


def _next(found: list[Change]) -> list[str]:
    """What a person does now."""
    open_conflicts = sum(bool(change.conflict) for change in found)
    settle = (
        f"resolve the {open_conflicts} conflict{'s' * (open_conflicts > 1)} listed above, then "
        if open_conflicts
        else ""
    )
    return [
        f"next: {settle}look at it by git diff HEAD, and git commit --all",
        "to undo it all: git reset --hard",
    ]
