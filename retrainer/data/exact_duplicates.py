"""Rows that say the same as another, or stand in the user's own test set too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from retrainer.data.splits import Rows
from retrainer.data.task_columns import TaskColumns
from retrainer.findings import Findings
from retrainer.formats.dataset import LABELS

DUPLICATE = "duplicate"


def drop_held_out(rows: Rows, linked: Sequence[bytes], findings: Findings) -> None:
    """Leaves out the rows that the user's own test rows know, then the training rows that the user's own
    validation rows know.

    `linked` are components by equal content and groups alone: they tell a row that is in the test set from
    one that is only like a row of it. A near-duplicate is left out with all that is linked to it.
    """
    if any(map(rows.given_test, rows.kept())) and findings.looks("test_overlap"):
        others = [row for row in rows.kept() if not rows.given_test(row)]
        _drop_known(rows, rows.given_test, others, linked, ("test", "tested"), findings)
    if any(map(rows.given_validation, rows.kept())) and findings.looks("validation_overlap"):
        held_out = set(rows.held_out())
        others = [row for row in rows.kept() if row not in held_out]
        _drop_known(rows, rows.given_validation, others, linked, ("validation", "validated on"), findings)


def _drop_known(
    rows: Rows,
    given: Callable[[int], bool],
    others: list[int],
    linked: Sequence[bytes],
    words: tuple[str, str],
    findings: Findings,
) -> None:
    """Leaves out those of the rows `others` that a row knows which is `given`."""
    split, used = words
    exact = {linked[row] for row in rows.kept() if given(row)}
    near = {rows.components[row] for row in rows.kept() if given(row)}
    same, like = f"also in the {split} set", f"near-duplicate of a {split} row"
    found = {row: same if linked[row] in exact else like for row in others if rows.components[row] in near}
    count = sum(reason == same for reason in found.values())
    note = f"training rows left out: {count} {used} by content or group, {len(found) - count} by likeness"
    findings.add(f"{split}_overlap", len(found), note, (rows.origins[row] for row in found))
    for row, reason in found.items():
        rows.reasons[row] = reason


def drop_exact_duplicates(
    rows: Rows, digest: Callable[[int], bytes], columns: TaskColumns, findings: Findings
) -> None:
    """Leaves out rows that say the same thing twice; the user's own test and validation rows all stay.

    Of rows with equal inputs and targets the oldest stays, of equally old ones the one with the lowest
    `digest`. Of rows with equal inputs and other labels none does, since nothing tells which is right; where
    several targets may be right (`TaskColumns.contradicting`) all stay, and are counted.
    """
    equal: dict[bytes, list[int]] = defaultdict(list)
    held_out = set(rows.held_out())
    for row in rows.kept():
        if row not in held_out:
            equal[rows.keys[row]].append(row)
    several = [same for same in equal.values() if len(same) > 1]
    what = "labels" if LABELS in columns.targets else "targets"
    if columns.targets and findings.looks("conflicting_labels"):
        differing = [row for same in several if len({rows.targets[row] for row in same}) > 1 for row in same]
        note = f"rows of equal content with different {what}"
        if columns.contradicting:
            note += "; none is kept"
            _leave_out(rows, differing, f"conflicting {what}", "conflicting_labels", note, findings)
        else:
            note += ", of which several may be right; all are kept"
            _note(rows, differing, "conflicting_labels", note, findings)
    if findings.looks("duplicates"):
        again = [row for same in several for row in _all_but_first(rows, same, digest)]
        note = f"rows with the content and {what} of another, which is kept"
        _leave_out(rows, again, DUPLICATE, "duplicates", note, findings)


def _all_but_first(rows: Rows, same: list[int], digest: Callable[[int], bytes]) -> list[int]:
    by_targets: dict[bytes, list[int]] = defaultdict(list)
    for row in same:
        if rows.reasons[row] is None:
            by_targets[rows.targets[row]].append(row)

    def age(row: int) -> tuple[bool, int, bytes]:
        at = rows.times[row]
        return at is None, at or 0, digest(row)

    return [row for alike in by_targets.values() if len(alike) > 1 for row in sorted(alike, key=age)[1:]]


def _note(rows: Rows, members: list[int], check: str, note: str, findings: Findings) -> None:
    findings.add(check, len(members), note, (rows.origins[row] for row in sorted(members)))


def _leave_out(
    rows: Rows, members: list[int], reason: str, check: str, note: str, findings: Findings
) -> None:
    _note(rows, members, check, note, findings)
    for row in members:
        rows.reasons[row] = reason
