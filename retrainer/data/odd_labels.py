"""Labels that number the rows, names of classes that stand for "no value", and own test rows that are older
than the training rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from retrainer.data.splits import Rows
from retrainer.findings import Findings, share_of

# What programs write for a value that is absent; and words that also are classes by right.
_NO_VALUE = {"nan", "null", "<na>", "#n/a", "n/a", "nat", "undefined", "#null!", "#value!", "#ref!", "(null)"}
_PERHAPS_NO_VALUE = {"none", "na", "nil", "-", "--", "?", "missing", "(none)", "(empty)", "(blank)"}
# Of rows drawn at random from the same time half are older than the middle.
_MOST_OLDER = 0.9
# Fewer rows with a label of their own, or a smaller share of all, are rare classes.
_LEAST_UNIQUE, _LEAST_UNIQUE_SHARE = 20, 0.2


def check_unique_labels(rows: Rows, column: str, findings: Findings) -> None:
    """The check `unique_labels`, on all rows but those of the user's own test and validation sets.

    `column` is the source's own name of the column of labels.
    """
    if not findings.looks("unique_labels"):
        return
    held_out = set(rows.held_out())
    labelled = [row for row in range(len(rows.keys)) if row not in held_out and rows.classes[row]]
    counts = Counter(name for row in labelled for name in rows.classes[row])
    alone = [row for row in labelled if all(counts[name] == 1 for name in rows.classes[row])]
    share = share_of(len(alone), len(labelled))
    if len(alone) < _LEAST_UNIQUE or share < _LEAST_UNIQUE_SHARE:
        alone = []
    note = f"of {len(labelled):,} rows have a label that no other row has"
    if alone:
        note += f": the column '{column}' looks like an id, which names no classes"
    examples = (f"{rows.origins[row]}: {', '.join(rows.classes[row])}" for row in alone)
    cure = "set source.label to the column of the classes"
    findings.add("unique_labels", len(alone), note, examples, cure, share)


def check_placeholders(rows: Rows, findings: Findings) -> None:
    """The check `placeholder_labels`, on all rows that are kept."""
    counts = Counter(name for row in rows.kept() for name in rows.classes[row])
    if findings.looks("placeholder_labels"):
        note = "classes whose name says that the label is absent"
        cure = "leave the label of such rows empty"
        findings.add("placeholder_labels", *_named(counts, _NO_VALUE, note), cure)
        findings.add("perhaps_placeholder_labels", *_named(counts, _PERHAPS_NO_VALUE, f"{note}, perhaps"))


def _named(counts: Counter[str], names: set[str], note: str) -> tuple[int, str, Sequence[str]]:
    found = sorted(name for name in counts if name.casefold() in names)
    return len(found), note, [f"{name}: {counts[name]:,} rows" for name in found]


def check_age_of_test(rows: Rows, training: Sequence[int], findings: Findings) -> None:
    """The check `old_test`: whether the user's own test rows are older than those to train on."""
    if not any(map(rows.given_test, rows.kept())) or not findings.looks("old_test"):
        return
    ages = sorted(at for row in training if (at := rows.times[row]) is not None)
    tested = [at for row in rows.kept() if rows.given_test(row) and (at := rows.times[row]) is not None]
    if not ages or not tested:
        return
    middle = ages[len(ages) // 2]
    older = sum(at < middle for at in tested)
    count = older if older >= _MOST_OLDER * len(tested) else 0
    note = (
        f"of {len(tested):,} own test rows are older than half of the training rows: the test is of the past"
    )
    findings.add("old_test", count, note, (), "give newer test rows, or older training rows")
