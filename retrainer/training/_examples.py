"""So many rows of each class to learn from: what a few examples would give, on the same test rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from retrainer.errors import SettingError
from retrainer.formats.columns import class_names, picked
from retrainer.messages import logger

if TYPE_CHECKING:
    from retrainer.settings import Training

_LOG = logger("train")


def examples(train: pa.Table, targets: Mapping[str, str], training: Training) -> pa.Table:
    """Of the training rows `training.examples_per_class` of each class, in their order, drawn by the seed;
    all where it is 0. With a larger number the rows of a smaller one are among them.

    A row of several classes counts for each of them, and is taken while one of them has too few. Raises
    SettingError for a task without classes.
    """
    most = training.examples_per_class
    if not most:
        return train
    named = class_names(train, targets)
    if named is None:
        raise SettingError(
            "training.examples_per_class counts rows of a class, and this task's rows have none; leave it out"
        )
    counts: Counter[str] = Counter()
    chosen = []
    order = np.random.Generator(np.random.PCG64(training.seed)).permutation(len(named))
    for row in order.tolist():
        if any(counts[name] < most for name in named[row]):
            chosen.append(row)
            counts.update(named[row])
    _LOG.info(
        "learning from %s of %s training rows: %s of each class (training.examples_per_class); the others are"
        " unused",
        f"{len(chosen):,}",
        f"{len(train):,}",
        most,
    )
    return picked(train, sorted(chosen))
