"""Classes of the test or validation that training never sees, beyond those that chance leaves out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from retrainer.data.splits import TEST, TRAIN, VALIDATION, Rows
from retrainer.findings import Findings, share_of

# More classes than chance gives come in fewer than one dataset in a thousand.
_CHANCE = 1e-3


def check_unseen_classes(
    rows: Rows,
    divided: Mapping[str, Sequence[int]],
    placed: Mapping[str, Sequence[int]],
    findings: Findings,
) -> None:
    """The check `unseen_class`, on the rows that are `placed` in each split; `divided` are all rows of each,
    before some were left out for their number.

    Of data with many small classes some have no row to train on, however well it is divided. As many classes
    as chance explains are named and do not count, the smallest first.
    """
    if not findings.looks("unseen_class"):
        return
    known = {name for row in placed[TRAIN] for name in rows.classes[row]}
    units = _units(rows, divided)
    outside = 1 - len(divided[TRAIN]) / sum(map(len, divided.values()))
    forgiven = most_by_chance(units.values(), outside)
    for split in (VALIDATION, TEST):
        counts = Counter(name for row in placed[split] for name in rows.classes[row])
        if unseen := sorted(counts.keys() - known, key=lambda name: (units[name], name)):
            share = share_of(sum(counts[name] for name in unseen[forgiven:]), counts.total())
            note, cure = f"classes of {split} that train never sees", "add rows of them to train on"
            findings.add("unseen_class", len(unseen), note, sorted(unseen), cure, share)


def _units(rows: Rows, divided: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Class → how many of its rows were placed by themselves: rows of one group or cluster go together,
    unless a person divided them."""
    by_hand = bool(rows.held_out())
    found: dict[str, set[bytes | int]] = defaultdict(set)
    for row in (row for members in divided.values() for row in members):
        for name in rows.classes[row]:
            found[name].add(row if by_hand else rows.components[row])
    return {name: len(units) for name, units in found.items()}


def most_by_chance(units: Iterable[int], outside: float) -> int:
    """How many classes may lack training rows by chance, where each unit misses them with the probability
    `outside`.

    The number of such classes is a sum of rare events, about Poisson, whose tail is the larger one (W.
    Hoeffding, Annals of Mathematical Statistics 27, 1956).
    """
    expected = float((outside ** np.array([*units], np.float64)).sum())
    if not expected:
        return 0
    counts = np.arange(int(expected + 10 * np.sqrt(expected)) + 20)
    factorials = np.cumsum(np.log(np.maximum(counts, 1)))
    more = 1 - np.cumsum(np.exp(counts * np.log(expected) - expected - factorials))
    return int(np.argmax(more < _CHANCE))
