"""Which split the parts of a source belong to by their names, as people name them: train/, val/, test.csv, …

    train, training                 the training rows
    val, valid, validation, dev     your own validation set
    test, testing                   your own test set

What follows a name behind `-`, `_`, `.` or as a number does not count: train-00000-of-00002, dev-clean,
val2017. Names mean this only where all that lie beside each other are such names, and `train` is one of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from retrainer.errors import DataError, SettingError, nearest
from retrainer.formats.names import SPLITS
from retrainer.settings import Source

if TYPE_CHECKING:
    import pyarrow as pa

TRAIN, VALIDATION, TEST = SPLITS
NONE = "none"
_NAMES = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
_ENDING = re.compile(r"([-_.]|\d).*")


def split_of(name: str) -> str | None:
    """The split that a name means; None for any other name."""
    return _NAMES.get(_ENDING.sub("", name.lower()))


def is_split_name(name: str) -> bool:
    """Whether it is one of the names, with nothing behind it."""
    return name.lower() in _NAMES


def splits_of(names: Collection[str], title: str, source: Source) -> Mapping[str, str]:
    """Name → its split, of what lies side by side; empty where the names mean no splits.

    `source.validation` may name another validation set, or none. Raises DataError where some names are of
    splits and others are not, and SettingError where there is no such validation set.
    """
    found = {name: split_of(name) or "" for name in names}
    chosen = source.validation
    if TRAIN not in found.values():
        if chosen not in ("", NONE):
            raise SettingError(f"source.validation: {title} has no train/ beside '{chosen}'; name it so")
        return {}
    if chosen and chosen != NONE:
        if chosen not in names:
            raise SettingError(
                f"source.validation: {title} has no '{chosen}'{nearest(chosen, sorted(names))}"
            )
        found |= {name: TRAIN for name, split in found.items() if split == VALIDATION} | {chosen: VALIDATION}
    elif chosen == NONE:
        found |= {name: TRAIN for name, split in found.items() if split == VALIDATION}
    others = sorted(name for name, split in found.items() if not split)
    if not others:
        return found
    # A class may be called train-station: with classes beside them, only the plain names are of splits.
    named = sorted(name for name in names if is_split_name(name))
    if len({_NAMES[name.lower()] for name in named}) > 1:
        raise DataError(
            f"{title} has {' and '.join(named)}, and beside them {others[0]}; keep everything inside the"
            " splits, or name the training rows in source.path and your own test set in source.test_path"
        )
    return {}


def given_columns(splits: Sequence[str]) -> dict[str, pa.Array]:
    """The columns by which a source says of each row that it is of an own test or validation set."""
    import pyarrow as pa

    return {
        "given_test": pa.array([split == TEST for split in splits], pa.bool_()),
        "given_validation": pa.array([split == VALIDATION for split in splits], pa.bool_()),
    }


def refuse_two_tests(splits: Iterable[str], title: str, source: Source) -> None:
    """Raises SettingError where the source's path has a test set, and `source.test_path` names another."""
    if source.test_path and TEST in splits:
        raise SettingError(f"source.test_path is set, but {title} has a test set itself; choose one")
