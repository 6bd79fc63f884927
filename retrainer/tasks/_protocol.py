"""What the fit loop, the predictor, the evaluation and the server ask of a task.

A task is any object with these members: a built-in one, or a plug-in's. `retrainer/tasks/NAME.py` has
`Options` (the further keys of `task:`) and `make(section, labels)`. It imports nothing heavy, so that
settings can be checked quickly. Nothing outside of a task's file and its metrics knows what its targets are.

Of other layers, whose types are not imported here: a body is `retrainer.models._network.Body`, a network the
`Network` there, a predictor is `retrainer.predict.Predictor`.

Legend: N rows, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from torch import Tensor, nn

    from retrainer.settings import Checks, Evaluation, Training


# Methods of a task that only evaluation calls, and `Predictor.explain`. What they import is no part of
# training or serving.
JUDGEMENT = (
    "baselines",
    "cheap_curve",
    "class_figures",
    "contrast",
    "contrasts",
    "details",
    "explain",
    "panels",
    "score",
    "slices",
)


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


class Task(Protocol):
    """What a row is, and what a model owes it.

    `input_columns` and `target_columns`: column of the dataset → its type, a word of
    `retrainer.formats.columns` (string, strings, number, image, audio, boxes, …). The first input is always
    needed, further ones are read where the data has them. Every target is needed to train and to judge.

    `abilities` are the settings that mean something for this task; one that needs another is refused by name:
      accuracy         a row is right or wrong (`figures` has "accuracy")
      calibration      `predict` divides logits by a temperature (training.calibrate)
      class_balance    one class a row (training.balance)
      features         the body makes one vector of a row (cached for training.strategy frozen; neighbours)
      label_errors     a label can be doubted by out-of-sample probabilities (checks.label_errors)
      label_smoothing  `loss` takes it (training.label_smoothing)
      mixing           inputs and targets can be mixed (training.mixup, cutmix)
      privacy          nothing is learned from the training rows but weights (training.privacy)
      resizing         inputs are pixels that may be made smaller (training.start_size)
      untrained        the head answers before any training, so the given weights are a baseline
    """

    input_columns: Mapping[str, str]
    target_columns: Mapping[str, str]
    labels: tuple[str, ...]  # the names of classes; () for a task without
    metrics: tuple[str, ...]  # names (retrainer/metrics/NAME.py or a plug-in's); the gate goes by the first
    # `titles`, optional: {metric: what people read of it here, where its own TITLE says too little}
    abilities: frozenset[str]
    # `faults(table)`, optional: of raw rows [N] with their targets a list: in words, why the task cannot use
    # each, None where it can. Preprocessing, which has no torch, leaves such rows out (the check `empty`).
    # `score(network, batch) -> pa.Table`, optional: of a batch with targets, how probable the model finds
    # them, or what else they tell of it: columns beside those of `predict`, where models are judged.

    # --- training ---

    def learn(self, train: pa.Table) -> None:
        """Takes from the training rows what must be known before a network is built (a vocabulary, a scale).

        Called before `input_spec` when a model is trained, never when one is loaded: what was learned must
        travel in the body's config, preprocessing or assets. Most tasks do nothing here.
        """

    def input_spec(self) -> dict[str, Any]:
        """What a model family must accept: `{"kind": "tokens" | "pixels" | …, …}`."""

    def head(self, body: Any, training: Training) -> nn.Module:
        """The module above the body: `head(features, batch)` → outputs, for `loss` and `predict`.

        Its random values are drawn here, from PyTorch's global generator.
        """

    def encode(self, table: pa.Table, preprocessing: dict[str, Any], assets: dict[str, bytes]) -> Encoded:
        """Table → rows ready for batches, by the body's preprocessing. Raises UserError naming a bad row.

        The table has the targets when rows are for training or validation, and not when they are predicted.
        """

    def targets(self, table: pa.Table) -> np.ndarray:
        """[N, …]: what `loss` compares with, as one array (padded where rows differ)."""

    def batch(self, encoded: Any, rows: np.ndarray, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The network's input for `rows`; a generator means training, and draws each row's augmentation.

        Where an augmentation changes the targets too (boxes move with their image), the batch has them as
        `targets`, which then stand for those of `targets(table)`. Each tensor's first axis is B.
        """

    def lengths(self, encoded: Any) -> np.ndarray | None:
        """int64 [N] by which rows of similar cost share a batch, or None where all cost the same."""

    def loss(self, outputs: Any, targets: Tensor, label_smoothing: float) -> Tensor:
        """Loss per row [B], float32."""

    def figures(self, outputs: Any, targets: Tensor) -> dict[str, np.ndarray]:
        """What else the history tells of the validation rows: name → float64 [B], averaged over rows."""

    # `settle(network, predictions, truth)`, optional: called once the weights are final, with the predictions
    # of the validation rows in their order (None where there are none) and their `targets`. What it puts into
    # the head travels with the model.

    # --- answers ---

    def predict(self, network: Any, batch: dict[str, Tensor], temperature: float) -> pa.Table:
        """A batch without targets → one typed row each: what evaluation reads, the server returns and
        `Predictor.predict` gives. The schema's metadata may hold what is the same for all rows.
        """

    # `enrol(gallery, predict)`, optional, of a task that recognises: reads a folder of those whom it is to
    # know from then on (make predict GALLERY=…, make serve GALLERY=…); `predict` is the predictor's own.

    def comparable(self, first: pa.Table, second: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Two models' predictions of the same rows, brought to one set of classes where theirs differ."""

    # --- judgement ---

    def baselines(self, train: pa.Table, test: pa.Table, evaluation: Evaluation) -> Baselines:
        """What little effort gives on the same rows. The first one answers without looking at the input."""

    def cheap_curve(
        self, train: pa.Table, test: pa.Table, draws: Sequence[Sequence[np.ndarray]]
    ) -> CheapCurve:
        """Optional. What a cheap model answers when it has learned from nested parts of the training rows:
        `draws` has the row numbers of the parts of each draw. In all about a second.
        """

    def details(self, judged: Judged) -> dict[str, Any]:
        """JSON for metrics.json beyond the common part: per class, examples, whatever the panels draw.

        Keys that the common part reads, each optional:
          notes      sentences beside the figures
          limits     sentences for the model card: what the figures do not show
          numbers    {name: number} for dashboards and the registered version's tags
          checks     what was found in the data (`Findings.plain`)
          confusion  {"labels": [...], "cells": [[true index, decided index, rows], ...]}
          roc        [[threshold, false positive rate, recall]]
        """

    def panels(self, judged: Judged, report: dict[str, Any]) -> list[str]:
        """Sections of report.html beyond the common part, made by `retrainer.pages`."""

    def class_figures(self, predictions: pa.Table, truth: pa.Table) -> Mapping[str, ClassFigure]:
        """Optional, of a task with classes: the figure by which each class is compared with the champion's.

        Those classes that the rows of `truth` have, with the same rows and S for two models' predictions that
        `comparable` has prepared.
        """

    def contrasts(self, predictions: pa.Table) -> np.ndarray:
        """Optional, with `contrast`: what is explained of each row, int64 [N, 2]. Numbers of two outputs: why
        the first rather than the second; -1: of none.

        A task without the two has no attributions, and its report says so.
        """

    def contrast(
        self, network: Any, batch: dict[str, Tensor], contrasts: Tensor, temperature: float
    ) -> Tensor:
        """Optional: the first output less the second, float32 [B], with a gradient by the batch."""

    def slices(self) -> Mapping[str, Callable[[pa.Table], list[str]]]:
        """Optional. Slices by what the inputs are like: name → test rows → each row's value [N]."""


@dataclass(frozen=True)
class ClassFigure:
    """`metric` of one class, in words `title`: the `statistics` [n, S] of `rows` [n], by their numbers.

    `having`: bool [n], the rows that have the class.
    """

    title: str
    metric: Any
    rows: np.ndarray
    statistics: np.ndarray
    having: np.ndarray


@dataclass(frozen=True)
class Baseline:
    """`name` is the key in metrics.json, `title` what people read, `note` what they must know about it."""

    name: str
    title: str
    predictions: pa.Table
    fitted_rows: int
    note: str = ""


@dataclass(frozen=True)
class Baselines:
    """`missing` says why there are not more: a setting, or rows that give nothing to fit."""

    found: tuple[Baseline, ...]
    missing: str = ""


@dataclass(frozen=True)
class CheapCurve:
    """`answers`: (training rows, predictions of the test rows) of each part; `title` names the model, and
    `missing` says why there is none."""

    title: str
    answers: tuple[tuple[int, pa.Table], ...]
    missing: str = ""


@dataclass(frozen=True)
class Judged:
    """A model on the test rows, for the task's own part of the report.

    uncalibrated  why the model's probabilities have no fitted temperature, should it have none
    features      float32 [N, D]: what the network's body made of the test rows, where `predictions` kept it
    train_features  float32 [M, D]: the same of the training rows, where the training kept it
    """

    predictor: Any
    train: pa.Table
    test: pa.Table
    predictions: pa.Table
    evaluation: Evaluation
    checks: Checks
    uncalibrated: str = ""
    features: np.ndarray | None = None
    train_features: np.ndarray | None = None
