"""From labels to a loss and to predictions: what all classification tasks share. Imports nothing heavy.

Legend: N rows, B rows of a batch, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from retrainer.errors import DataError, SettingError, nearest
from retrainer.settings import Section

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from torch import Tensor, nn

    from retrainer.settings import Evaluation, Training
    from retrainer.tasks._protocol import Baselines, CheapCurve, ClassFigure, Judged

# A multi-label row has every class that is likelier than not.
THRESHOLD = 0.5


def row_name(table: pa.Table, row: int) -> str:
    """The row's origin (file and row) where the table knows it, else its number."""
    return str(table["origin"][row].as_py()) if "origin" in table.column_names else f"row {row}"


class ClassOptions(Section):
    """Keys of `task:` that all tasks of classes have."""

    head: Literal["linear", "prototypes"] = Field(
        "linear",
        description="prototypes: of a frozen body, the mean of each class's normalised features; the nearest"
        " one is the answer. Nothing is trained",
    )


class Classification:
    """One class per row (softmax), or any set of them (a sigmoid each).

    Predictions have `label`, or for multi-label `labels`, and `probabilities`: one float32 field per class.
    """

    input_columns: Mapping[str, str]
    target_columns: Mapping[str, str] = {"labels": "strings"}

    def __init__(self, labels: tuple[str, ...], multi_label: bool, head: str = "linear") -> None:
        """Raises SettingError for prototypes where a row may have several classes."""
        if head == "prototypes" and multi_label:
            raise SettingError(
                "task.head: prototypes gives a row the nearest class, and task.multi_label allows several;"
                " set task.head: linear"
            )
        self.labels = labels
        self.multi_label = multi_label
        self._prototypes = head == "prototypes"
        # With one label a row, micro-F1 is the accuracy again.
        micro = ("micro_f1",) if multi_label else ()
        self.metrics = ("accuracy", "macro_f1", *micro, "log_loss", "calibration_error")
        self.titles = {"accuracy": "subset accuracy"} if multi_label else {}
        one_class = () if multi_label else ("class_balance", "label_errors")
        # The mean of a few rows keeps no secret of them, and has no loss that could be smoothed or weighted.
        of_loss = () if self._prototypes else ("label_smoothing", "privacy", *one_class)
        self.abilities = frozenset(("accuracy", "calibration", "features", *of_loss))

    def learn(self, train: pa.Table) -> None:  # noqa: ARG002 (the classes are the dataset's)
        """Raises UserError where there is nothing to tell apart."""
        if not self.labels or (len(self.labels) == 1 and not self.multi_label):
            raise DataError(f"the dataset has classes {list(self.labels)}; a classifier needs two or more")

    def head(self, body: Any, training: Training) -> nn.Module:
        """Raises UserError when there is no class."""
        from retrainer.tasks._heads import LinearHead, PrototypeHead

        if not self.labels:
            raise DataError("the model's 'labels' must name the classes, one or more")
        if self._prototypes:
            return PrototypeHead(body.width, len(self.labels))
        return LinearHead(body.width, len(self.labels), training.dropout)

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
            raise DataError(f"{where}: label {name!r} is no class here{nearest(str(name), self.labels)}")
        if self.multi_label:
            matrix: np.ndarray = np.zeros((len(table), len(self.labels)), dtype=np.float32)
            matrix[rows, codes.to_numpy()] = 1.0
            return matrix
        counts = np.bincount(rows, minlength=len(table))
        if (counts != 1).any():
            row = int((counts != 1).argmax())
            raise DataError(
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

    def figures(self, outputs: Tensor, targets: Tensor) -> dict[str, np.ndarray]:
        """`accuracy`: 1 where a row is right; a multi-label row is when its exact set of classes is."""
        decided, truth = self.decide(self.probabilities(outputs)), targets.cpu().numpy()
        right = (decided == (truth > THRESHOLD)).all(axis=1) if self.multi_label else decided == truth
        return {"accuracy": right.astype(float)}

    def predict(self, network: nn.Module, batch: dict[str, Tensor], temperature: float) -> pa.Table:
        """Logits [B, K] are divided by `temperature`."""
        return self.predictions(self.probabilities(network(batch) / temperature))

    def predictions(self, probabilities: np.ndarray) -> pa.Table:
        """Probabilities, float32 [B, K] → the table that `predict` gives."""
        import pyarrow as pa

        decided = self.decide(probabilities)
        fields = [pa.array(column, pa.float32()) for column in probabilities.T]
        shares = pa.StructArray.from_arrays(
            fields, fields=[pa.field(name, pa.float32()) for name in self.labels]
        )
        if not self.multi_label:
            names = pa.array(self.labels, pa.string()).take(pa.array(decided))
            return pa.table({"label": names, "probabilities": shares})
        rows = [[name for name, has in zip(self.labels, row, strict=True) if has] for row in decided]
        return pa.table({"labels": pa.array(rows, pa.list_(pa.string())), "probabilities": shares})

    def comparable(self, first: pa.Table, second: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Both with the classes of either, the first one's first; a class that a model lacks has 0."""
        names = [table.schema.field("probabilities").type.names for table in (first, second)]
        union = [*names[0], *(name for name in names[1] if name not in set(names[0]))]
        return _with_classes(first, union), _with_classes(second, union)

    def baselines(self, train: pa.Table, test: pa.Table, evaluation: Evaluation) -> Baselines:
        """The commonest class, and logistic regression on cheap features of text or image."""
        from retrainer.tasks._class_baselines import baselines

        return baselines(train, test, self.multi_label, evaluation)

    def cheap_curve(
        self, train: pa.Table, test: pa.Table, draws: Sequence[Sequence[np.ndarray]]
    ) -> CheapCurve:
        """Ridge regression on the features of the cheap baseline."""
        from retrainer.tasks._class_curve import cheap_curve

        return cheap_curve(train, test, self.multi_label, draws)

    def class_figures(self, predictions: pa.Table, truth: pa.Table) -> Mapping[str, ClassFigure]:
        """Each class's recall."""
        from retrainer.tasks._class_figures import recalls

        return recalls(predictions, truth)

    def contrasts(self, predictions: pa.Table) -> np.ndarray:
        """The likeliest class and the next one; multi-label: the likeliest class alone."""
        import numpy as np

        from retrainer.formats.columns import probability_matrix

        order = np.argsort(-probability_matrix(predictions), axis=1, kind="stable")
        alone = self.multi_label or order.shape[1] == 1
        second = np.full(len(order), -1) if alone else order[:, 1]
        return np.stack([order[:, 0], second], axis=1).astype(np.int64)

    def contrast(
        self, network: nn.Module, batch: dict[str, Tensor], contrasts: Tensor, temperature: float
    ) -> Tensor:
        """The logarithm of how many times likelier the first class is than the second (than not to be)."""
        logits = network(batch).float() / temperature
        first, second = contrasts.unbind(dim=1)
        towards = logits.gather(1, first[:, None])[:, 0]
        against = logits.gather(1, second.clamp(min=0)[:, None])[:, 0]
        return towards - against * (second >= 0)

    def details(self, judged: Judged) -> dict[str, Any]:
        """See `_class_details.py`."""
        from retrainer.tasks._class_details import details

        return details(judged)

    def panels(self, judged: Judged, report: dict[str, Any]) -> list[str]:
        from retrainer.tasks._class_panels import panels

        return panels(judged, report["details"])

    def probabilities(self, logits: Tensor) -> np.ndarray:
        """Logits [B, K] → float32 [B, K]; rows sum to 1 unless multi-label."""
        logits = logits.detach().float()
        shares = logits.sigmoid() if self.multi_label else logits.softmax(dim=1)
        return shares.cpu().numpy()

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """int64 [B] of the likeliest class, or bool [B, K] of those above the threshold."""
        return probabilities > THRESHOLD if self.multi_label else probabilities.argmax(axis=1)


def _with_classes(predictions: pa.Table, classes: list[str]) -> pa.Table:
    """The predictions with one probability for each of `classes`, in their order."""
    import numpy as np
    import pyarrow as pa

    column = predictions.schema.get_field_index("probabilities")
    shares = predictions.column(column).combine_chunks()
    absent = pa.array(np.zeros(len(predictions), np.float32))
    known = {shares.type.field(n).name: shares.field(n) for n in range(shares.type.num_fields)}
    fields = [pa.field(name, pa.float32()) for name in classes]
    padded = pa.StructArray.from_arrays([known.get(name, absent) for name in classes], fields=fields)
    return predictions.set_column(column, "probabilities", padded)
