"""Whom the model is compared with on the same test rows: the champion, and the baselines.

The champion is scored again, never taken from an old report: only the same rows make a fair comparison.
  - It is the very model that is judged: nothing is scored twice; it stays the champion.
  - It knows other labels than the rows have: a row whose label it does not know is wrong for it, as in use.
  - It cannot answer these rows at all (other inputs, another kind of task, a format that this version does
    not read): nothing can be shown to be better than it, so the verdict is challenger, with the reason. Who
    wants the new model all the same moves the alias, or gives the new task a `registry.name` of its own.

Legend: N rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.errors import UserError
from retrainer.evaluation.answers import Answers, answers
from retrainer.evaluation.baselines import Baseline, NoBaseline, label_rows, linear, majority
from retrainer.evaluation.compare import Comparison, compare
from retrainer.evaluation.intervals import Figure
from retrainer.evaluation.metrics import headline
from retrainer.settings import Evaluation

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from retrainer.predict import Predictor

# Probabilities of labels that a rival never saw would make its other figures senseless.
_COMPARED = ("accuracy", "subset_accuracy", "micro_f1", "macro_f1")


@dataclass(frozen=True)
class Champion:
    """The registry's champion: its version, the digest of its model, and the model directory."""

    version: str
    model_sha256: str
    directory: Path


@dataclass(frozen=True)
class Rescored:
    """The champion on today's rows. `answers` is None when it cannot be compared; `note` says why."""

    answers: Answers | None
    metrics: dict[str, Figure]
    note: str


def ask(predictor: Predictor, test: pa.Table) -> Answers:
    """What a model answers on the test rows, decided as its task does."""
    probabilities = predictor.probabilities(test)
    task = predictor.task
    return answers(probabilities, predictor.labels, label_rows(test), task.multi_label, task.decide)


def rescore(
    champion: Champion, test: pa.Table, multi_label: bool, device: str, settings: Evaluation
) -> Rescored:
    """Scores the champion on the test rows, or says why it cannot be."""
    from retrainer.predict import Predictor

    try:
        predictor = Predictor.load(champion.directory, device)
        if predictor.task.multi_label != multi_label:
            kinds = "several labels a row", "one label a row"
            raise UserError(f"it gives {kinds[multi_label]}, this task wants {kinds[not multi_label]}")
        told = ask(predictor, test)
    except UserError as error:
        # Where the champion lies on this machine is nobody's matter.
        place = str(champion.directory)
        return Rescored(None, {}, str(error).replace(f"{place}/", "its ").replace(place, "it"))
    return Rescored(told, _compared(told, settings), _strangers(told, predictor.labels))


def _strangers(told: Answers, known: tuple[str, ...]) -> str:
    """What must be known of a champion that never saw some of the rows' labels."""
    unknown = told.labels[len(known) :]
    if not unknown:
        return ""
    places = range(len(known), len(told.labels))
    hit = told.targets[:, list(places)].any(axis=1) if told.multi_label else told.targets >= len(known)
    named = ", ".join(repr(label) for label in unknown[:5]) + (", …" if len(unknown) > 5 else "")
    return f"it does not know {named}: {int(hit.sum()):,} rows are wrong for it from the start"


def fit_baselines(
    train: pa.Table, test: pa.Table, multi_label: bool, settings: Evaluation
) -> tuple[list[Baseline], str]:
    """The majority class and the cheap linear model; and why there is no linear one, else "".

    Raises UserError when there are no training rows.
    """
    if not len(train):
        raise UserError("the dataset has no training rows, so there is no baseline; lower split.test")
    found = [majority(label_rows(train), label_rows(test), multi_label)]
    if not settings.baseline:
        return found, "evaluation.baseline is false"
    try:
        found.append(linear(train, test, multi_label, settings.seed))
    except NoBaseline as error:
        return found, str(error)
    return found, ""


def baseline_figures(baseline: Baseline, told: Answers, settings: Evaluation) -> dict[str, Any]:
    """A baseline as it stands in metrics.json, with the paired test of the model against it."""
    return {
        "title": baseline.title,
        "note": baseline.note,
        "fitted_rows": baseline.fitted_rows,
        "metrics": _compared(baseline.answers, settings),
        **_paired(compare(told.correct, baseline.answers.correct)),
    }


def without_known_rows(rescored: Rescored, fair: np.ndarray | None, settings: Evaluation) -> Rescored:
    """The champion's figures on the rows that it never learned from (bool [N]; None: it is not known).

    `answers` stay those of all rows; None when it learned from every one.
    """
    if rescored.answers is None or fair is None or fair.all():
        return rescored
    if not fair.any():
        return Rescored(None, {}, "it was trained on every one of these rows")
    left_out = f"{int((~fair).sum()):,} rows that it was trained on are left out of the comparison"
    note = f"{rescored.note}; {left_out}" if rescored.note else left_out
    return Rescored(rescored.answers, _compared(rescored.answers.only(fair), settings), note)


def champion_figures(
    champion: Champion | None, rescored: Rescored | None, told: Answers, fair: np.ndarray | None = None
) -> dict[str, Any] | None:
    """The champion as it stands in metrics.json. `rescored`: None when the champion is the judged model.

    `fair`: bool [N], the rows that the two are compared on; None: all.
    """
    if champion is None:
        return None
    known = {"version": champion.version, "model_sha256": champion.model_sha256}
    if rescored is None:
        return known | {"same": True, "compared": False, "note": "it is this very model", "metrics": {}}
    about = known | {"same": False, "note": rescored.note, "metrics": rescored.metrics}
    if rescored.answers is None:
        return about | {"compared": False}
    rows: Any = slice(None) if fair is None else fair
    paired = _paired(compare(told.correct[rows], rescored.answers.correct[rows]))
    return about | {"compared": True} | paired


def _compared(told: Answers, settings: Evaluation) -> dict[str, Figure]:
    figures = headline(told, settings)
    return {name: figures[name] for name in _COMPARED if name in figures}


def _paired(versus: Comparison) -> dict[str, Any]:
    return {
        "difference": round(versus.difference, 6),
        "better": versus.better,
        "worse": versus.worse,
        "p_value": versus.p_value,
    }
