"""Rows and their number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.trust.careless.plants.changes import renamed
from benchmarks.trust.careless.rows import Case, Month


def joined_three_times(case: Case) -> Month:
    """A join on a key that is not unique."""
    again = [[replace(row, name=renamed(row, 1000 * time)) for row in case.month.train] for time in (1, 2)]
    return replace(case.month, train=(*case.month.train, *again[0], *again[1]))


def truncated(case: Case) -> Month:
    """The export ran into its row limit."""
    return replace(case.month, train=case.month.train[: len(case.month.train) // 2])


def test_shrunk(case: Case) -> Month:
    """Somebody sampled it to save time and wrote over the file."""
    return replace(case.month, test=case.month.test[: len(case.month.test) // 5])


def stale(case: Case) -> Month:
    """The export job failed silently and left the old file."""
    return replace(case.month, train=case.world.last)


def easy_test(case: Case) -> Month:
    """Rows over which people disagreed were taken out, half of all."""
    assert case.world.predicted is not None
    labels, sure = case.world.predicted(case.month.test)
    right = [n for n, row in enumerate(case.month.test) if labels[n] == row.label]
    kept = sorted(sorted(right, key=lambda n: -float(sure[n]))[: len(case.month.test) // 2])
    return replace(case.month, test=tuple(case.month.test[n] for n in kept))


def easy_rows(case: Case) -> Month:
    """Of the new rows those were kept on which the old model is sure and right."""
    assert case.world.predicted is not None
    came = case.month.train[len(case.world.last) :]
    labels, sure = case.world.predicted(came)
    surest = float(np.median(sure))
    kept = [row for n, row in enumerate(came) if labels[n] == row.label and sure[n] >= surest]
    return replace(case.month, train=(*case.month.train[: len(case.world.last)], *kept))
