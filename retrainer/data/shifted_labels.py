"""Labels that stand beside the wrong rows: a column that slipped by one against the others.

Legend: N rows of the sample, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from retrainer.data.out_of_sample import LeaveOneOut
from retrainer.data.splits import Rows
from retrainer.findings import Findings

_SHIFTS = (0, -1, 1)
# Consecutive rows that are judged together: a label left out in the middle shifts those below it.
_BLOCKS = 10
# By how much more often a row must agree with its neighbour's label than with its own, and by how many
# standard errors of that difference.
_LEAST_GAIN, _SIGMAS = 0.1, 5.0


def check_shifted_labels(
    rows: Rows, sample: Sequence[int], names: Sequence[str], left_out: LeaveOneOut, findings: Findings
) -> None:
    """The check `shifted_labels`. `sample` are the rows, in the order of the source, that `left_out` knows.

    A model that never saw a row should agree with the label of that row, not with that of the row above or
    below. Where neighbours have one label, as in a sorted source, nothing can be told, and nothing is lost.
    """
    numbers = {name: number for number, name in enumerate(names)}
    labels = np.array([_shifted(rows, sample, numbers, shift) for shift in _SHIFTS])
    if (labels == labels[0]).all(axis=0).mean() > 1 - _LEAST_GAIN:
        findings.add("shifted_labels", 0, "the source is sorted by label")
        return
    agreeing = [_agreements(left_out.scores(codes, len(names)).argmax(axis=1), labels) for codes in labels]
    best = max(agreeing, key=lambda found: found.mean(axis=1).max())
    order = np.argsort(sample, kind="stable")
    slipped = {shift: _rows_where(best[:, order], place) for place, shift in enumerate(_SHIFTS) if place}
    shift = max(slipped, key=lambda one: slipped[one])
    where = "above" if shift < 0 else "below"
    note = (
        f"of {len(sample):,} training rows agree with the label of the row {where} them and not with their"
        " own: labels and rows slipped against each other"
    )
    findings.add("shifted_labels", slipped[shift], note, (), "put each label beside its row again")


def _shifted(rows: Rows, sample: Sequence[int], numbers: dict[str, int], shift: int) -> list[int]:
    """The class of the row at that distance; a row's own at the ends, and where the other has none."""
    found = []
    for row in sample:
        other = row + shift
        near = 0 <= other < len(rows.classes) and rows.given[other] == rows.given[row]
        names = rows.classes[other] if near else ()
        own = numbers[rows.classes[row][0]]
        found.append(numbers.get(names[0], own) if len(names) == 1 else own)
    return found


def _agreements(answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """bool [shifts, N]: whether the answers, int64 [N], are the labels at each shift."""
    return answers[None, :] == labels


def _rows_where(agrees: np.ndarray, place: int) -> int:
    """Rows of all blocks that agree far more with the labels at this shift than with their own."""
    count = 0
    for block in np.array_split(np.arange(agrees.shape[1]), _BLOCKS):
        other, own = agrees[place, block], agrees[0, block]
        alone, against = int((other & ~own).sum()), int((own & ~other).sum())
        enough = alone - against >= _SIGMAS * math.sqrt(alone + against)
        if enough and alone - against >= _LEAST_GAIN * len(block):
            count += len(block)
    return count
