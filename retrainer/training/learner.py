"""What all parts of the fit loop share: the network, what it learns by, and the rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from retrainer.models._network import Network
from retrainer.settings import Compute, Training
from retrainer.tasks._protocol import Encoded, Task
from retrainer.training._distributed import ALONE, Group

# Rows as the task encoded them, and their targets.
Data = tuple[Encoded, np.ndarray]


@dataclass(frozen=True)
class Learner:
    """A network and how it is trained; `compute` is resolved, and `group` the processes that train it.

    on_features: gets what a frozen body has made of the training rows, float32 [N, D] in their order.
    """

    network: Network
    task: Task
    training: Training
    compute: Compute
    group: Group = ALONE
    on_features: Callable[[np.ndarray], Any] = lambda _: None


class Splits(NamedTuple):
    """The rows to learn from, and those that choose the epoch, if there are any."""

    train: Data
    validation: Data | None = None

    @property
    def encoded(self) -> list[Encoded]:
        return [data[0] for data in self if data is not None]
