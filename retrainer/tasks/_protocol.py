"""What the fit loop, the predictor and the evaluation ask of a task.

A task is any object with these members: a built-in one, or a plug-in's. Legend: N rows, B rows of a
batch, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from torch import Tensor


class Encoded(Protocol):
    """A split's rows in the form that batches are cut from: made once, then only read.

    With a true attribute `make_ahead`, a thread makes the next batch while a step runs.
    """

    @property
    def nbytes(self) -> int:
        """Bytes of all rows, as held in memory."""

    def __len__(self) -> int: ...

    def to(self, device: torch.device) -> Self:
        """The same rows, whose batches come out on `device`."""


class ClassificationTask(Protocol):
    """Owns everything between a table and a loss: input, collate, loss, decision."""

    columns: tuple[str, ...]
    labels: tuple[str, ...]
    multi_label: bool

    def wanted(self) -> dict[str, Any]:
        """What a model family must accept: `{"kind": "tokens" | "pixels", …}`."""

    def encode(self, table: pa.Table, preprocessing: dict[str, Any], assets: dict[str, bytes]) -> Encoded:
        """Table → rows ready for batches, by the body's preprocessing. Raises UserError naming a bad row."""

    def targets(self, table: pa.Table) -> np.ndarray:
        """int64 [N], or float32 [N, K] for multi-label."""

    def batch(self, encoded: Any, rows: np.ndarray, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The body's input for `rows`; a generator means training, and draws each row's augmentation."""

    def lengths(self, encoded: Any) -> np.ndarray | None:
        """int64 [N] by which rows of similar cost share a batch, or None where all cost the same."""

    def loss(self, logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Logits [B, K] → loss per row [B]."""

    def probabilities(self, logits: Tensor) -> np.ndarray:
        """Logits [N, K] → float32 [N, K]."""

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """int64 [N] of the likeliest class, or bool [N, K] for multi-label."""

    def correct(self, decided: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """bool [N]; multi-label rows are right when the exact set is."""
