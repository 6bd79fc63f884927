"""How many of the placed rows are kept: so many a class, or so many in all."""

from __future__ import annotations

from collections import defaultdict

from retrainer.data.splits import TRAIN, VALIDATION, Rows
from retrainer.errors import SettingError
from retrainer.settings import Split

_LEAST_PER_CLASS = 2


def choose(rows: Rows, placed: dict[str, list[int]], split: Split) -> dict[str, list[int]]:
    """Applies train_per_class, validation_per_class and limit; the rows left out get the reason.

    `limit` keeps the splits' and classes' shares as they are, but at least two rows of each split and two of
    each class in train, so it may keep more than it says. Raises UserError for a quota of each class where
    no row has a class.
    """
    chosen = dict(placed)
    for name, most, setting in (
        (TRAIN, split.train_per_class, "train_per_class"),
        (VALIDATION, split.validation_per_class, "validation_per_class"),
    ):
        if most:
            if not any(rows.classes):
                raise SettingError(
                    f"split.{setting} counts rows of a class, and these rows have none; leave it out"
                )
            kept = _lowest_per_class(rows, placed[name], most)
            chosen[name] = _only(rows, placed[name], kept, setting)
    total = sum(len(members) for members in chosen.values())
    if split.limit and total > split.limit:
        for name, members in chosen.items():
            share = max(_LEAST_PER_CLASS, round(split.limit * len(members) / total))
            kept = set(members[:share])
            if name == TRAIN:  # what cannot be learnt cannot be tested
                kept |= _lowest_per_class(rows, members, _LEAST_PER_CLASS)
            chosen[name] = _only(rows, members, kept, "limit")
    return chosen


def _lowest_per_class(rows: Rows, members: list[int], most: int) -> set[int]:
    """The first `most` rows of each class; a row of several is kept if any of them needs it."""
    counts: dict[str, int] = defaultdict(int)
    kept = set()
    for row in members:
        names = rows.classes[row] or ("",)  # rows without a label count as a class of their own
        if any(counts[name] < most for name in names):
            kept.add(row)
            for name in names:
                counts[name] += 1
    return kept


def _only(rows: Rows, members: list[int], kept: set[int], setting: str) -> list[int]:
    for row in members:
        if row not in kept:
            rows.reasons[row] = f"over split.{setting}"
    return [row for row in members if row in kept]
