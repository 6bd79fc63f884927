"""Models on the same test rows: figures of each, and the gate's test of each against the first, both ways.

The rows are those of the recipe's dataset today, which every model predicts again; or, where all that is
compared are reports of one test set, the predictions that these keep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from retrainer.comparison.differences import table
from retrainer.comparison.subjects import Subject
from retrainer.errors import UserError
from retrainer.formats.report import PREDICTED, PREDICTIONS
from retrainer.registry.columns import aligned
from retrainer.settings import Evaluation, Task

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from retrainer.gate.intervals import Figure
    from retrainer.gate.pair import Pair
    from retrainer.gate.scores import Scores
    from retrainer.predict import Predictor
    from retrainer.tasks._protocol import Task as TaskObject

_CLASSES = 5


class NotHere(Exception):
    """Why they cannot be measured on the same rows here."""


class Settings(NamedTuple):
    """Of the recipe, what decides how models are compared; `metric` is `gate.metric`."""

    evaluation: Evaluation
    metric: str
    device: str


class _Met(NamedTuple):
    """Subjects and their predictions of `rows`; `unseen`: bool [N] of each, rows it has not learned."""

    subjects: Sequence[Subject]
    task: TaskObject
    scores: Scores
    rows: pa.Table
    predictions: Sequence[pa.Table]
    unseen: Sequence[np.ndarray | None]
    where: str


def on_rows_of(dataset: Path, subjects: Sequence[Subject], settings: Settings) -> list[str]:
    """All on the test rows of the dataset. Raises NotHere where one of them cannot predict these."""
    from retrainer.formats.dataset import Dataset
    from retrainer.formats.files import MANIFEST
    from retrainer.gate.scores import scores_of
    from retrainer.overlap import Today, overlap

    if not (dataset / MANIFEST).is_file():
        raise NotHere(f"{dataset} is not there (`make pipeline` makes it)")
    test = Dataset(dataset).split("test")
    if not len(test):
        raise NotHere(f"{dataset} has no test rows")
    predictors = [_load(one, settings.device) for one in subjects]
    predictions = [_predicted(one, by, test) for one, by in zip(subjects, predictors, strict=True)]
    today = Today.of(dataset, len(test))
    met = [overlap(today, one.model) for one in subjects if one.model is not None]
    unseen = [None if one is None else one.unseen for one in met]
    task, where = predictors[0].task, f"{len(test):,} test rows of {dataset}"
    scores = scores_of(task, settings.metric)
    return _said(_Met(subjects, task, scores, test, predictions, unseen, where), settings.evaluation)


def by_reports(subjects: Sequence[Subject], settings: Settings) -> list[str]:
    """By the predictions that the reports keep. Raises NotHere where these are not of the same rows."""
    from retrainer.gate.scores import scores_of
    from retrainer.tasks import make_task

    tests = {str(one.figures.get("test_set", {}).get("sha256", "")) for one in subjects}
    tasks = [one.settings.get("task") for one in subjects]
    if any(one.report is None for one in subjects) or not tasks[0] or len(tests) != 1 or tests == {""}:
        raise NotHere("not all of them are reports on the same test rows")
    task = make_task(Task.parse(tasks[0], "task"), tuple(subjects[0].figures["labels"]))
    kept = [_kept(one, task) for one in subjects]
    rows = kept[0][0]
    if not all(one.equals(rows) for one, _ in kept):
        raise NotHere("their reports left out different test rows")
    where = f"{len(rows):,} test rows, as the reports keep them"
    scores = scores_of(task, settings.metric)
    met = _Met(subjects, task, scores, rows, [found for _, found in kept], [None] * len(subjects), where)
    try:
        return _said(met, settings.evaluation)
    except UserError as error:
        raise NotHere(f"their predictions cannot be paired: {error}") from None


def _kept(subject: Subject, task: TaskObject) -> tuple[pa.Table, pa.Table]:
    """The rows of a report, and its predictions of them by the names that models give them."""
    import pyarrow.parquet as pq

    assert subject.report is not None
    found = pq.read_table(subject.report / PREDICTIONS)
    about = [name for name in ("origin", "id", *task.target_columns) if name in found.column_names]
    predicted = found.drop_columns(about)
    names = [name.removeprefix(PREDICTED) for name in predicted.column_names]
    return found.select(about), predicted.rename_columns(names)


def _load(subject: Subject, device: str) -> Predictor:
    from retrainer.predict import Predictor

    if subject.model is None:
        raise NotHere(f"the model of {subject.title} is neither here nor in the registry")
    try:
        return Predictor.load(subject.model, device)
    except UserError as error:
        raise NotHere(f"{subject.title} cannot be loaded: {error}") from None


def _predicted(subject: Subject, predictor: Predictor, test: pa.Table) -> pa.Table:
    try:
        return predictor.judge(test)
    except UserError as error:
        raise NotHere(f"{subject.title} cannot predict these rows: {error}") from None


def _said(met: _Met, evaluation: Evaluation) -> list[str]:
    pairs = [_pairs(met, number) for number in range(1, len(met.subjects))]
    lines = [*_figures(met, evaluation), ""]
    for other, of_metrics in enumerate(pairs, start=1):
        lines += _against_first(met, other, of_metrics[met.scores.gate_metric])
    return [*lines, *_classes(met, [of_metrics[met.scores.gate_metric] for of_metrics in pairs])]


def _pairs(met: _Met, other: int) -> dict[str, Pair]:
    """The first beside another, by every metric."""
    mine, its = met.predictions[0], met.predictions[other]
    names = [", ".join(one.column_names) for one in (mine, its)]
    if names[0] != names[1]:
        raise NotHere(f"one predicts {names[0]}, the other {names[1]}")
    return met.scores.pairs(*met.task.comparable(mine, its), met.rows)


def _figures(met: _Met, evaluation: Evaluation) -> list[str]:
    from retrainer.gate.intervals import figures

    found = [figures(met.scores.measured(one, met.rows), evaluation) for one in met.predictions]
    rows: list[tuple[str, ...]] = [
        (name, *(with_interval(one[name]) for one in found)) for name in met.scores.metrics
    ]
    if any(one is not None for one in met.unseen):
        learned = ["unknown" if one is None else f"{int((~one).sum()):,}" for one in met.unseen]
        rows.insert(0, ("rows it was trained on", *learned))
    sizes = [_size(one) for one in met.subjects]
    return [met.where, *table(met.subjects, "", [*rows, ("model, MB", *sizes)])]


def _size(subject: Subject) -> str:
    """In 10^6 bytes, as its report says it, for which no model is fetched."""
    from retrainer.formats.model_files import model_mb

    stored = subject.figures.get("cost", {}).get("model_mb")
    if stored is None and subject.model is not None:
        stored = model_mb(subject.model)
    return "–" if stored is None else f"{stored:,}"


def with_interval(figure: Figure | Mapping[str, Any]) -> str:
    return f"{figure['value']:.4f} ({figure['low']:.4f}–{figure['high']:.4f})"


def _against_first(met: _Met, other: int, pair: Pair) -> list[str]:
    title, unseen = met.scores.gate_title, (met.unseen[0], met.unseen[other])
    names = (met.subjects[0].title, met.subjects[other].title)
    lines = _paired(names, pair, title, "all rows")
    if unseen[0] is not None and unseen[1] is not None:
        neither = unseen[0] & unseen[1]
        if 0 < neither.sum() < len(met.rows):
            rows = f"the {int(neither.sum()):,} rows that neither was trained on, nor on rows linked to them"
            lines += _paired(names, pair.only(neither), title, rows)
    return lines


def _paired(names: tuple[str, str], pair: Pair, title: str, rows: str) -> list[str]:
    """The gate's one-sided test of its metric, both ways."""
    from retrainer.gate.chance import p_said
    from retrainer.gate.compare import compare
    from retrainer.gate.pair import Pair

    a, b = names
    there, back = compare(pair), compare(Pair(pair.other, pair.candidate))
    test = "McNemar" if there.better is not None else "bootstrap"
    seen = f"{title} is {there.candidate:.4f} of {a}, {there.other:.4f} of {b}"
    if there.better is not None:
        seen = f"only {a} was right on {there.better:,}, only {b} on {there.worse:,}"
    return [
        f"{rows}: {seen}",
        f"  is {a} better? {p_said(there.p_value, 4)}; is {b}? {p_said(back.p_value, 4)} ({test})",
    ]


def _classes(met: _Met, pairs: Sequence[Pair]) -> list[str]:
    """The classes on whose rows the metric differs most, where it differs at all."""
    parts = _rows_by_class(met)
    if not parts:
        return []
    title = met.scores.gate_title
    values = {
        name: [pairs[0].only(rows).candidate.value, *(pair.only(rows).other.value for pair in pairs)]
        for name, rows in parts.items()
    }
    differing = [name for name in parts if len(set(values[name])) > 1]
    if not differing:
        return ["", f"no class differs in {title}"]
    differing.sort(key=lambda name: min(values[name]) - max(values[name]))
    head = (f"{title} by class", "rows", *(one.title for one in met.subjects))
    shown = [
        (name, f"{len(parts[name]):,}", *(f"{value:.4f}" for value in values[name]))
        for name in differing[:_CLASSES]
    ]
    return ["", f"largest of {len(differing):,} differences between classes", *aligned([head, *shown])]


def _rows_by_class(met: _Met) -> dict[str, np.ndarray]:
    """The numbers of the rows that have each class; none where the rows have no classes."""
    import numpy as np

    from retrainer.formats.columns import class_names

    found: dict[str, list[int]] = {}
    for row, names in enumerate(class_names(met.rows, met.task.target_columns) or ()):
        for name in names:
            found.setdefault(name, []).append(row)
    return {name: np.array(found[name]) for name in sorted(found)}
