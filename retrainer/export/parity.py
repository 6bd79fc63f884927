"""An exported folder's answers beside the model's own, on test rows that it has not learned from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer import metrics
from retrainer.errors import DataError, ModelError
from retrainer.export.description import Exported
from retrainer.export.use_me import Model
from retrainer.tasks._classes import Classification

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

# A float32 network in another library rounds otherwise; more than this is another network. Of a number: this
# share of the largest.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Parity:
    """`difference`: the largest, of a probability or a number. `same`: share of rows with the same decision,
    None where the answer is a number. `metric`: its name, the model's value and the export's. `scale`: the
    largest number, at least 1."""

    rows: int
    difference: float
    same: float | None
    metric: tuple[str, float, float]
    scale: float = 1.0

    def plain(self) -> dict[str, Any]:
        name, own, exported = self.metric
        return {
            "rows": self.rows,
            "largest_difference": self.difference,
            "same_decisions": self.same,
            "metric": {"name": name, "model": own, "export": exported},
        }

    def lines(self, form: str) -> list[str]:
        """As they are printed."""
        name, own, exported = self.metric
        what = "a number" if self.same is None else "a probability"
        lines = [f"{'difference':<14}at most {self.difference:.1e} in {what}, on {self.rows:,} test rows"]
        if self.same is not None:
            lines.append(f"{'same answer':<14}{self.same:.2%} of these rows")
        return [*lines, f"{name:<22}{own:.4f} of the model, {exported:.4f} of {form}"]


def test_rows(dataset: Path, model: Path) -> pa.Table:
    """The dataset's test rows that the model has not learned from. Raises DataError where there are none."""
    from retrainer.formats.dataset import Dataset
    from retrainer.formats.files import MANIFEST
    from retrainer.overlap import Today, overlap

    if not (dataset / MANIFEST).is_file():
        raise DataError(
            f"{dataset} is not there, and without test rows no export is compared; run make pipeline"
        )
    test = Dataset(dataset).split("test")
    met = overlap(Today.of(dataset, len(test)), model) if len(test) else None
    test = test if met is None else test.filter(met.unseen)
    if not len(test):
        raise DataError(
            f"{dataset} has no test rows that this model has not learned from, and without them no export is"
            " compared; set split.test above 0, or source.test_path"
        )
    return test


def parity_of(exported: Exported, folder: Path, test: pa.Table) -> Parity:
    """By the folder's own `use_me.py`, so that reading the rows is compared too."""
    task, predictor = exported.model.predictor.task, exported.model.predictor
    own, other = predictor.predict(test), _exported_answers(exported, folder, test)
    a, b = _numbers(own), _numbers(other)
    same = None if exported.is_number else float(_same_decisions(own, other).mean())
    metric = metrics.load(task.metrics[0], "gate.metric")
    values = [float(metric.value(metric.statistics(one, test).sum(axis=0))) for one in (own, other)]
    scale = float(abs(a).max()) if exported.is_number else 1.0
    difference = float(abs(a - b).max())
    return Parity(len(test), difference, same, (task.metrics[0], values[0], values[1]), max(scale, 1.0))


def require_equal(parity: Parity, exported: Exported, form: str) -> None:
    """Raises ModelError where a float32 export answers otherwise than the model."""
    if not parity.difference <= TOLERANCE * parity.scale:
        cure = "use make predict or make serve" if form == "onnx" else "choose FORMAT=onnx"
        raise ModelError(
            f"FORMAT={form}: as such a network this model of family {exported.family} answers otherwise (by"
            f" {parity.difference:.2g}), so nothing was written; {cure}"
        )


def _exported_answers(exported: Exported, folder: Path, test: pa.Table) -> pa.Table:
    """The table that the task would give, of what `use_me.py` says."""
    import numpy as np
    import pyarrow as pa

    answers = Model(folder).predict(raw_rows(exported, test))
    if exported.is_number:
        return pa.table({"prediction": pa.array([one["prediction"] for one in answers], pa.float64())})
    shares = np.array([list(one["probabilities"].values()) for one in answers], np.float32)
    task = exported.model.predictor.task
    assert isinstance(task, Classification)
    return task.predictions(shares)


def columns_of(exported: Exported, table: pa.Table) -> list[str]:
    """The input columns that these rows have: `text_pair` is there only where rows are pairs."""
    return [name for name in exported.model.predictor.task.input_columns if name in table.column_names]


def raw_rows(exported: Exported, table: pa.Table) -> list[Any]:
    """Rows as `use_me.py` takes them: encoded images, texts, or pairs of them."""
    columns = columns_of(exported, table)
    values = [table[name].to_pylist() for name in columns]
    if columns == ["image"]:
        return [image["bytes"] for image in values[0]]
    if len(columns) == 1:
        return [text or "" for text in values[0]]
    return [text or "" if pair is None else (text or "", pair) for text, pair in zip(*values, strict=True)]


def _numbers(predictions: pa.Table) -> np.ndarray:
    """float64 [N, K] of probabilities, or [N] of numbers."""
    from retrainer.formats.columns import probability_matrix

    if "prediction" in predictions.column_names:
        numbers: np.ndarray = predictions["prediction"].to_numpy()
        return numbers
    return probability_matrix(predictions).astype(float)


def _same_decisions(own: pa.Table, other: pa.Table) -> np.ndarray:
    import numpy as np

    column = "label" if "label" in own.column_names else "labels"
    pairs = zip(own[column].to_pylist(), other[column].to_pylist(), strict=True)
    return np.array([a == b for a, b in pairs])
