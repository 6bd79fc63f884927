"""Two registered versions on the same test rows: figures, the gate's test both ways, classes that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.errors import UserError
from retrainer.registry.columns import aligned
from retrainer.services.readers import RegisteredVersion
from retrainer.settings import Evaluation

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from retrainer.gate.intervals import Figure
    from retrainer.gate.pair import Pair
    from retrainer.gate.scores import Scores
    from retrainer.predict import Predictor

_CLASSES = 5


@dataclass(frozen=True)
class Side:
    """A version and its model directory, every hash of which was checked."""

    version: RegisteredVersion
    directory: Path

    @property
    def title(self) -> str:
        return f"version {self.version.version}"


Sides = tuple[Side, Side]


class NotHere(Exception):
    """Why the two cannot be scored on the same rows here."""


def scored(sides: Sides, dataset: Path, evaluation: Evaluation, metric: str, device: str) -> list[str]:
    from retrainer.formats.dataset import Dataset
    from retrainer.formats.files import MANIFEST
    from retrainer.gate.scores import scores_of
    from retrainer.overlap import Today, overlap

    if not (dataset / MANIFEST).is_file():
        raise NotHere(f"{dataset} is not there (`make pipeline` makes it)")
    test = Dataset(dataset).split("test")
    if not len(test):
        raise NotHere(f"{dataset} has no test rows")
    predictors = [_load(side, device) for side in sides]
    scores = scores_of(predictors[0].task, metric)
    pairs = _pairs(sides, predictors, test, scores)
    today = Today.of(dataset, len(test))
    met = [overlap(today, side.directory) for side in sides]
    learned = ["unknown" if one is None else f"{int((~one.unseen).sum()):,}" for one in met]
    lines = [f"{len(test):,} test rows of {dataset}", *_figures(sides, pairs, evaluation, learned)]
    chosen, title = pairs[scores.gate_metric], scores.gate_title
    lines += ["", *_paired(sides, chosen, title, "all rows")]
    unseen = [one.unseen for one in met if one is not None]
    if len(unseen) == len(sides) and 0 < (neither := unseen[0] & unseen[1]).sum() < len(test):
        rows = f"the {int(neither.sum()):,} rows that neither was trained on, nor on rows linked to them"
        lines += _paired(sides, chosen.only(neither), title, rows)
    return [*lines, *_classes(sides, chosen, title, _rows_by_class(test, predictors[0]))]


def _load(side: Side, device: str) -> Predictor:
    from retrainer.predict import Predictor

    try:
        return Predictor.load(side.directory, device)
    except UserError as error:
        raise NotHere(f"{side.title} cannot be loaded: {error}") from None


def _pairs(sides: Sides, predictors: Sequence[Predictor], test: pa.Table, scores: Scores) -> dict[str, Pair]:
    predictions = []
    for side, predictor in zip(sides, predictors, strict=True):
        try:
            predictions.append(predictor.predict(test))
        except UserError as error:
            raise NotHere(f"{side.title} cannot predict these rows: {error}") from None
    names = [", ".join(one.column_names) for one in predictions]
    if names[0] != names[1]:
        raise NotHere(f"one predicts {names[0]}, the other {names[1]}")
    return scores.pairs(*predictors[0].task.comparable(*predictions), test)


def _figures(
    sides: Sides, pairs: Mapping[str, Pair], evaluation: Evaluation, learned: list[str]
) -> list[str]:
    from retrainer.formats.model_files import model_mb
    from retrainer.gate.intervals import figures

    first = figures({name: pair.candidate for name, pair in pairs.items()}, evaluation)
    second = figures({name: pair.other for name, pair in pairs.items()}, evaluation)
    shown = [(name, _with_interval(first[name]), _with_interval(second[name])) for name in pairs]
    rows = [("rows it was trained on", *learned), *shown]
    rows.append(("model, MB", *(f"{model_mb(side.directory):,}" for side in sides)))
    return aligned([head_of(sides), *rows])


def _with_interval(figure: Figure) -> str:
    return f"{figure['value']:.4f} ({figure['low']:.4f}–{figure['high']:.4f})"


def head_of(sides: Sides) -> tuple[str, ...]:
    return ("", *(side.title for side in sides))


def _paired(sides: Sides, pair: Pair, title: str, rows: str) -> list[str]:
    """The gate's one-sided test of its metric, both ways."""
    from retrainer.gate.compare import compare
    from retrainer.gate.pair import Pair

    a, b = sides
    there, back = compare(pair), compare(Pair(pair.other, pair.candidate))
    test = "McNemar" if there.better is not None else "bootstrap"
    seen = f"{title} is {there.candidate:.4f} of {a.title}, {there.other:.4f} of {b.title}"
    if there.better is not None:
        seen = f"only {a.title} was right on {there.better:,}, only {b.title} on {there.worse:,}"
    return [
        f"{rows}: {seen}",
        f"  is {a.title} better? p = {there.p_value:.4f}; is {b.title}? p = {back.p_value:.4f} ({test})",
    ]


def _rows_by_class(test: pa.Table, predictor: Predictor) -> dict[str, np.ndarray]:
    """The numbers of the rows that have each class; none where the rows have no classes."""
    import numpy as np

    from retrainer.formats.columns import class_names

    found: dict[str, list[int]] = {}
    for row, names in enumerate(class_names(test, predictor.task.target_columns) or ()):
        for name in names:
            found.setdefault(name, []).append(row)
    return {name: np.array(found[name]) for name in sorted(found)}


def _classes(sides: Sides, pair: Pair, title: str, rows: Mapping[str, np.ndarray]) -> list[str]:
    """The classes on whose rows the metric differs most, where it differs at all."""
    if not rows:
        return []
    parts = {name: pair.only(places) for name, places in rows.items()}
    values = [(name, part.rows, part.candidate.value, part.other.value) for name, part in parts.items()]
    differing = sorted((one for one in values if one[2] != one[3]), key=lambda one: -abs(one[2] - one[3]))
    if not differing:
        return ["", f"no class differs in {title}"]
    head = (f"{title} by class", "rows", *(side.title for side in sides))
    shown = [(label, f"{n:,}", f"{a:.4f}", f"{b:.4f}") for label, n, a, b in differing[:_CLASSES]]
    return ["", f"largest of {len(differing):,} differences between classes", *aligned([head, *shown])]
