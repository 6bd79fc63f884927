"""Rows → what each answer rests on: a table, for the report and for `Predictor.explain`.

Legend: N rows, B rows of a group, T tokens or frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from retrainer.attribution.inputs import Path, path_of, shares
from retrainer.attribution.parts import (
    REGIONS,
    STRETCHES,
    WORDS,
    Part,
    Word,
    region_parts,
    seconds_each,
    stretch_parts,
    word_parts,
    words_of,
)
from retrainer.errors import ModelError

if TYPE_CHECKING:
    from retrainer.predict import Predictor

# Points of the path from the baseline to the row.
STEPS = 16
# Columns of the parts, by the kind of input.
COLUMNS = {"tokens": "words", "pixels": "regions", "audio": "stretches"}
_TYPES = {"words": WORDS, "regions": REGIONS, "stretches": STRETCHES}


@dataclass(frozen=True)
class Prepared:
    """Rows as the task encodes them, and of texts the words of each."""

    encoded: Any
    contrasts: np.ndarray
    words: list[list[Word]] | None


@dataclass(frozen=True)
class Explainer:
    """A network's attributions. `network` may be another than the predictor's, such as a randomised copy."""

    predictor: Predictor
    network: Any
    steps: int = STEPS

    @classmethod
    def of(cls, predictor: Predictor, steps: int = STEPS) -> Explainer:
        """Raises UserError where the task has no attributions."""
        if not hasattr(predictor.task, "contrast"):
            raise ModelError("no attributions: this task does not say which of its outputs to explain")
        return cls(predictor, predictor.network, steps)

    def with_network(self, network: Any) -> Explainer:
        return replace(self, network=network)

    @property
    def kind(self) -> str:
        """Of input: tokens, pixels or audio."""
        return str(self.network.description.preprocessing.get("kind"))

    @property
    def column(self) -> str:
        """Of the table that `explain` gives: where the parts are."""
        return COLUMNS[self.kind]

    def explain(self, table: pa.Table, contrasts: np.ndarray) -> pa.Table:
        """One row for each of `table`, in its order:

          towards, against    names of the two outputs of the row's contrast; null: of none
          output, baseline    float64: the contrast of the row, and of an input that says nothing
          words | regions | stretches    the parts of the input, each with its `value`: above 0 it speaks for
                              `towards`. They add up to output - baseline, but for the integral's error

        `contrasts`: int64 [N, 2], see `Task.contrasts`. Raises UserError where the input's kind, or the
        network, has no attributions.
        """
        prepared = self.prepared(table, contrasts)
        found: dict[int, dict[str, Any]] = {}
        for rows in self._groups(prepared):
            found |= dict(zip(rows.tolist(), self._explained(prepared, rows), strict=True))
        names = self.predictor.task.labels or ("prediction",)
        sides = [[names[place] if place >= 0 else None for place in side] for side in contrasts.T.tolist()]
        ends = {name: [found[row][name] for row in range(len(table))] for name in ("output", "baseline")}
        parts = [found[row]["parts"] for row in range(len(table))]
        return pa.table(
            {
                "towards": pa.array(sides[0], pa.string()),
                "against": pa.array(sides[1], pa.string()),
                **{name: pa.array(values, pa.float64()) for name, values in ends.items()},
                self.column: pa.array(parts, _TYPES[self.column]),
            }
        )

    def prepared(self, table: pa.Table, contrasts: np.ndarray) -> Prepared:
        task, body = self.predictor.task, self.network.description
        if self.kind not in COLUMNS:
            raise ModelError(
                f"no attributions: nothing is known of explaining input of the kind '{self.kind}'"
            )
        inputs = {*task.input_columns, "origin"}
        table = table.select([name for name in table.column_names if name in inputs])
        encoded = task.encode(table, body.preprocessing, body.assets).to(self.predictor.device)
        words = words_of(table, body.preprocessing, body.assets) if self.kind == "tokens" else None
        return Prepared(encoded, contrasts, words)

    def _groups(self, prepared: Prepared) -> Iterator[np.ndarray]:
        """Numbers of rows that go together, those of similar length."""
        lengths = self.predictor.task.lengths(prepared.encoded)
        order = np.arange(len(prepared.contrasts))
        if lengths is not None:
            order = np.argsort(-lengths, kind="stable")
        while len(order):
            count = self.path(prepared, order[:1])[0].rows_at_once
            yield order[:count]
            order = order[count:]

    def path(self, prepared: Prepared, rows: np.ndarray) -> tuple[Path, dict[str, torch.Tensor]]:
        """The path of these rows, and their batch."""
        device = self.predictor.device
        made = self.predictor.task.batch(prepared.encoded, rows, None)
        batch = {name: tensor.to(device) for name, tensor in made.items()}
        inside = None
        if prepared.words is not None:
            inside = torch.zeros(batch["input_ids"].shape, dtype=torch.bool)
            for place, row in enumerate(rows.tolist()):
                inside[place, [token for word in prepared.words[row] for token in word.tokens]] = True
            inside = inside.to(device)
        return path_of(self.kind, self.network.description, batch, inside, self.steps), batch

    def _explained(self, prepared: Prepared, rows: np.ndarray) -> list[dict[str, Any]]:
        predictor = self.predictor
        path, batch = self.path(prepared, rows)
        # Captum repeats every tensor for each point of the path, the contrasts too.
        batch["contrasts"] = torch.from_numpy(prepared.contrasts[rows]).to(predictor.device)
        task: Any = predictor.task

        def output(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            asked = inputs.pop("contrasts")
            found: torch.Tensor = task.contrast(self.network, inputs, asked, predictor.temperature)
            return found

        made = shares(path, batch, self.kind, output, predictor.device)
        frames = batch["lengths"].tolist() if self.kind == "audio" else [None] * len(rows)
        return [
            {
                "output": float(made.output[place]),
                "baseline": float(made.baseline[place]),
                "parts": self._parts(made.values[place].numpy()[: frames[place]], prepared, row),
            }
            for place, row in enumerate(rows.tolist())
        ]

    def _parts(self, values: np.ndarray, prepared: Prepared, row: int) -> list[Part]:
        if prepared.words is not None:
            return word_parts(prepared.words[row], values)
        if self.kind == "pixels":
            return region_parts(values)
        return stretch_parts(values, seconds_each(self.network.description.preprocessing))


def values_of(explained: pa.Table) -> list[np.ndarray]:
    """Of each row the values of its parts."""
    parts = explained.column(explained.num_columns - 1).to_pylist()
    return [np.array([part["value"] for part in row], np.float64) for row in parts]


def completeness_error(explained: pa.Table) -> float:
    """The part of output - baseline that the values miss, over all rows: 0 is complete (Sundararajan et al.
    2017, proposition 1). NaN where no row differs from its baseline."""
    difference = explained["output"].to_numpy() - explained["baseline"].to_numpy()
    missed = difference - np.array([values.sum() for values in values_of(explained)])
    whole = float(np.abs(difference).sum())
    return float(np.abs(missed).sum()) / whole if whole else float("nan")
