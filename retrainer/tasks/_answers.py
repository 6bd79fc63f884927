"""From labels to a loss and a decision: what all classification tasks share. Imports nothing heavy.

Legend: N rows, B rows of a batch, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.errors import UserError, nearest

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from torch import Tensor

# A multi-label row has every class that is likelier than not.
THRESHOLD = 0.5


def row_name(table: pa.Table, row: int) -> str:
    """The row's origin (file and row) where the table knows it, else its number."""
    return str(table["origin"][row].as_py()) if "origin" in table.column_names else f"row {row}"


class ClassAnswers:
    """One class per row (softmax), or any set of them (a sigmoid each)."""

    def __init__(self, labels: tuple[str, ...], multi_label: bool) -> None:
        self.labels = labels
        self.multi_label = multi_label

    def targets(self, table: pa.Table) -> np.ndarray:
        """int64 [N], or float32 [N, K] for multi-label, from the column `labels`.

        Raises UserError for a class that is not in `labels`, or not exactly one per single-label row.
        """
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        column = pa.chunked_array(table["labels"].chunks, pa.list_(pa.string())).combine_chunks()
        names = pc.list_flatten(column)
        codes = pc.index_in(names, value_set=pa.array(self.labels, pa.string()))
        rows = pc.list_parent_indices(column).to_numpy()
        if codes.null_count:
            at = codes.is_null().to_numpy(zero_copy_only=False).argmax()
            name, where = names[at].as_py(), row_name(table, int(rows[at]))
            raise UserError(f"{where}: label {name!r} is no class here{nearest(str(name), self.labels)}")
        if self.multi_label:
            matrix: np.ndarray = np.zeros((len(table), len(self.labels)), dtype=np.float32)
            matrix[rows, codes.to_numpy()] = 1.0
            return matrix
        counts = np.bincount(rows, minlength=len(table))
        if (counts != 1).any():
            row = int((counts != 1).argmax())
            raise UserError(
                f"{row_name(table, row)}: {counts[row]} labels where one is needed; "
                "set task.multi_label: true if rows may have several or none"
            )
        return codes.to_numpy().astype(np.int64)

    def loss(self, logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Cross entropy per row [B]; multi-label: the mean binary cross entropy of the classes.

        Smoothing follows Szegedy et al. 2016 (arXiv:1512.00567), for each binary answer likewise.
        """
        from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

        logits = logits.float()
        if not self.multi_label:
            return cross_entropy(logits, targets, reduction="none", label_smoothing=label_smoothing)
        smooth = targets * (1 - label_smoothing) + label_smoothing / 2
        return binary_cross_entropy_with_logits(logits, smooth, reduction="none").mean(dim=1)

    def probabilities(self, logits: Tensor) -> np.ndarray:
        """Logits [N, K] → float32 [N, K]; rows sum to 1 unless multi-label."""
        logits = logits.detach().float()
        answer = logits.sigmoid() if self.multi_label else logits.softmax(dim=1)
        return answer.cpu().numpy()

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """int64 [N] of the likeliest class, or bool [N, K] of those above the threshold."""
        return probabilities > THRESHOLD if self.multi_label else probabilities.argmax(axis=1)

    def correct(self, decided: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """bool [N]; a multi-label row is right when its exact set of classes is."""
        if self.multi_label:
            return (decided == (targets > THRESHOLD)).all(axis=1)
        return decided == targets
