"""Rows that say the same as another, or stand in the user's own test set too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from retrainer.data.splits import Rows
from retrainer.data.task_columns import TaskColumns
from retrainer.findings import Findings, share_of
from retrainer.formats.dataset import LABELS

DUPLICATE = "duplicate"


def drop_held_out(rows: Rows, linked: Sequence[bytes], findings: Findings) -> None:
    """Leaves out the rows that the user's own test rows know, then the training rows that the user's own
    validation rows know.

    `linked` are components by equal content and groups alone: they tell a row that is in the test set from
    one that is only like a row of it. A near-duplicate is left out with all that is linked to it.
    """
    own_test = [row for row in rows.kept() if rows.given_test(row)]
    _drop_known(rows, own_test, set(own_test), linked, "test", findings)
    own_validation = [row for row in rows.kept() if rows.given_validation(row)]
    _drop_known(rows, own_validation, set(rows.held_out()), linked, "validation", findings)


def _drop_known(
    rows: Rows, own: list[int], spared: set[int], linked: Sequence[bytes], split: str, findings: Findings
) -> None:
    """Leaves out the rows that the user's `own` rows of the split know, but for those that are `spared`."""
    if not own:
        return
    for check, of, reason, how in (
        (f"{split}_overlap", linked, f"also in the {split} set", "have the content or the group of"),
        (
            f"near_{split}_overlap",
            rows.components,
            f"near-duplicate of a {split} row",
            "are nearly equal, or linked, to",
        ),
    ):
        known, same = {of[row] for row in own}, {linked[row] for row in own}
        found = [row for row in rows.kept() if row not in spared and of[row] in known]
        if of is rows.components:
            found = [row for row in found if linked[row] not in same]
        if findings.looks(check):
            trained = {of[row] for row in found}
            met = sum(of[row] in trained for row in own)
            note = f"training rows, left out, {how} {met} of your {len(own)} {split} rows"
            origins = (rows.origins[row] for row in found)
            cure = "take them out of the one or the other"
            findings.add(check, len(found), note, origins, cure, share_of(met, len(own)))
            for row in found:
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
        else:  # no share of them is too many
            note += ", of which several may be right; all are kept"
            findings.add("conflicting_labels", len(differing), note, _origins(rows, differing))
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


def _origins(rows: Rows, members: list[int]) -> list[str]:
    return [rows.origins[row] for row in sorted(members)]


def _leave_out(
    rows: Rows, members: list[int], reason: str, check: str, note: str, findings: Findings
) -> None:
    share = share_of(len(members), len(rows.kept()))
    findings.add(check, len(members), note, _origins(rows, members), share=share)
    for row in members:
        rows.reasons[row] = reason
