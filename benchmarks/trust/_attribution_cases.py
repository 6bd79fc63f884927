"""Rows as a network gets them, each cut into the parts that attributions are given for.

Legend: P parts of a row, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from retrainer.attribution.explain import Explainer
from retrainer.attribution.inputs import KEYS
from retrainer.attribution.parts import seconds_each
from retrainer.predict import Predictor


@dataclass(frozen=True)
class Case:
    """One row as the network gets it. `mask` gives each element of `values` its part; -1: of none."""

    key: str
    values: Tensor
    baseline: Tensor
    mask: Tensor
    others: dict[str, Tensor]
    contrasts: Tensor
    layer: nn.Module | None

    @property
    def parts(self) -> int:
        return int(self.mask.max()) + 1

    def forward(self, predictor: Predictor, network: Any) -> Callable[..., Tensor]:
        """Of values [B, …] the contrast [B]; the row's other inputs are repeated for each."""
        task: Any = predictor.task

        def contrast(values: Tensor) -> Tensor:
            repeated = {name: one.expand(len(values), *one.shape[1:]) for name, one in self.others.items()}
            contrasts = self.contrasts.expand(len(values), 2)
            found: Tensor = task.contrast(
                network, {self.key: values, **repeated}, contrasts, predictor.temperature
            )
            return found

        return contrast

    def by_part(self, values: Tensor) -> np.ndarray:
        """Added up: float64 [P]."""
        found, mask = np.zeros(self.parts), self.mask.expand(values.shape).flatten().numpy()
        np.add.at(found, mask[mask >= 0], values.detach().flatten().double().numpy()[mask >= 0])
        return found


def cases(predictor: Predictor, rows: pa.Table) -> list[Case]:
    explainer, task = Explainer.of(predictor), predictor.task
    body = predictor.network.description
    contrasts = torch.from_numpy(task.contrasts(predictor.predict(rows)))
    explained = explainer.explain(rows, contrasts.numpy())[explainer.column].to_pylist()
    prepared, found = explainer.prepared(rows, contrasts.numpy()), []
    for row in range(len(rows)):
        path, batch = explainer.path(prepared, np.array([row]))
        key = KEYS[explainer.kind]
        others = {name: one for name, one in batch.items() if name != key}
        mask = _mask(path.values, explained[row], prepared.words and prepared.words[row], body.preprocessing)
        found.append(
            Case(key, path.values, path.baseline, mask, others, contrasts[row : row + 1], path.layer)
        )
    return found


def _mask(values: Tensor, parts: list[dict[str, Any]], words: Any, preprocessing: dict[str, Any]) -> Tensor:
    """int64, of a shape that expands to that of `values`."""
    if words is not None:
        mask = torch.full(values.shape, -1)
        for number, word in enumerate(words):
            mask[0, list(word.tokens)] = number
        return mask
    if values.dim() == 4:
        mask = torch.full((1, 1, *values.shape[2:]), -1)
        for number, part in enumerate(parts):
            mask[..., part["top"] : part["bottom"], part["left"] : part["right"]] = number
        return mask
    mask, each = torch.full((1, values.shape[1]), -1), seconds_each(preprocessing)
    for number, part in enumerate(parts):
        mask[0, round(part["start"] / each) : round(part["end"] / each)] = number
    return mask if values.dim() == 2 else mask[..., None]
