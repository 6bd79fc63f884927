"""What the tasks share that write a text for each row. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from retrainer.errors import SettingError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from torch import nn

    from retrainer.settings import Training


class TextOutput:
    """The truth is `target_text`, and what a model writes is `prediction`. There are no classes."""

    target_columns: Mapping[str, str] = {"target_text": "string"}
    labels: tuple[str, ...] = ()

    def targets(self, table: pa.Table) -> np.ndarray:
        """int64 [N] of zeros: ids of texts depend on the model's tokenizer, so each batch brings its own."""
        import numpy as np

        return np.zeros(len(table), np.int64)

    def comparable(self, first: pa.Table, second: pa.Table) -> tuple[pa.Table, pa.Table]:
        """As they are: there are no classes."""
        return first, second


def text_predictions(texts: Iterable[str]) -> pa.Table:
    """The table that `predict` gives."""
    import pyarrow as pa

    return pa.table({"prediction": pa.array(list(texts), pa.string())})


def head_of_whole_network(training: Training, why: str) -> nn.Module:
    """Nothing is left to do above a network that writes texts. `why` follows the strategy's name.

    Raises UserError for a strategy that trains a head alone.
    """
    from retrainer.tasks._heads import PassOn

    if training.strategy in ("frozen", "head-then-full"):
        raise SettingError(f"training.strategy: {training.strategy} trains a head alone, and {why}")
    return PassOn()
