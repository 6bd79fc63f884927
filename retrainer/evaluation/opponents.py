"""Whom the model is compared with on the same test rows: the champion, and the task's baselines.

The champion is scored again, never taken from an old report: only the same rows make a fair comparison. Where
its network differs from the judged model's in the head alone, its head gets the features that are there.
  - It is the very model that is judged: nothing is scored twice; it stays the champion.
  - It knows other classes than the rows have: a row whose class it does not know is wrong for it, as in use.
  - It cannot predict these rows at all (other inputs, another kind of task, a format that this version does
    not read): nothing can be shown to be better than it, so the verdict is challenger, with the reason. Who
    wants the new model all the same moves the alias, or gives the new task a `registry.name` of its own.

Legend: N rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from retrainer.errors import ModelError, UserError
from retrainer.formats.columns import class_names
from retrainer.gate.compare import Comparison, compare
from retrainer.gate.evidence import Anchor, Champion
from retrainer.gate.intervals import Figure, figures
from retrainer.gate.pair import Pair
from retrainer.gate.scores import Scores
from retrainer.same_body import same_body
from retrainer.settings import Evaluation

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from retrainer.tasks._protocol import Baseline, Judged

Pairs = Mapping[str, Pair]


@dataclass(frozen=True)
class Opponent:
    """The model beside another one, by every metric. `pairs` is empty when the two cannot be compared;
    `note` then says why.

    labels       the classes that the other one knows; () for a task without
    predictions  the model's and the other one's of all test rows, as `Task.comparable` prepared them
    """

    pairs: Pairs
    note: str = ""
    labels: tuple[str, ...] = ()
    predictions: tuple[pa.Table, pa.Table] | None = None

    def figures(self, settings: Evaluation) -> dict[str, Figure]:
        """The other one's."""
        return figures({name: pair.other for name, pair in self.pairs.items()}, settings)


def baseline_of(baseline: Baseline, judged: Judged, scores: Scores) -> Opponent:
    mine, its = judged.predictor.task.comparable(judged.predictions, baseline.predictions)
    return Opponent(scores.pairs(mine, its, judged.test), baseline.note)


def champion_of(champion: Champion, judged: Judged, scores: Scores) -> Opponent:
    """Scores the champion on the test rows, or says why it cannot be."""
    from retrainer.predict import Predictor

    try:
        predictor = Predictor.load(champion.directory, str(judged.predictor.device))
        shared = judged.features is not None and same_body(predictor, judged.predictor)
        predictions = predictor.judge(judged.test, judged.features if shared else None)
        _require_alike(predictions, judged.predictions)
        mine, its = judged.predictor.task.comparable(judged.predictions, predictions)
        pairs = scores.pairs(mine, its, judged.test)
    except UserError as error:
        # Where the champion lies on this machine is nobody's matter.
        place = str(champion.directory)
        return Opponent({}, str(error).replace(f"{place}/", "its ").replace(place, "it"))
    return Opponent(pairs, _of_unknown_classes(judged, predictor.labels), predictor.labels, (mine, its))


def _require_alike(its: pa.Table, mine: pa.Table) -> None:
    if its.column_names != mine.column_names:
        theirs, ours = (", ".join(one.column_names) for one in (its, mine))
        raise ModelError(f"it predicts {theirs}, this model {ours}")


def _of_unknown_classes(judged: Judged, known: tuple[str, ...]) -> str:
    """What must be known of a champion that never saw some of the rows' classes."""
    if not known:
        return ""
    rows = class_names(judged.test, judged.predictor.task.target_columns)
    unknown = sorted({name for names in rows or () for name in names} - set(known))
    if not rows or not unknown:
        return ""
    hit = sum(not set(names).isdisjoint(unknown) for names in rows)
    named = ", ".join(repr(label) for label in unknown[:5]) + (", …" if len(unknown) > 5 else "")
    return f"it does not know {named}: {hit:,} rows are wrong for it from the start"


def on_unseen_rows(opponent: Opponent, unseen: np.ndarray | None) -> Opponent:
    """The champion, or the anchor, on the rows `unseen`, bool [N], that it has learned neither from nor from
    rows linked to them; None: it is not known which."""
    if not opponent.pairs or unseen is None or unseen.all():
        return opponent
    if not unseen.any():
        return Opponent({}, "it was trained on every one of these rows, or on rows linked to it")
    left_out = f"{int((~unseen).sum()):,} rows are left out: it was trained on them or on rows linked to them"
    note = f"{opponent.note}; {left_out}" if opponent.note else left_out
    pairs = {name: pair.only(unseen) for name, pair in opponent.pairs.items()}
    return replace(opponent, pairs=pairs, note=note)


def baseline_figures(
    baseline: Baseline, trivial: bool, opponent: Opponent, scores: Scores, settings: Evaluation
) -> dict[str, Any]:
    """A baseline as it stands in metrics.json, with the paired test of the model against it."""
    return {
        "title": baseline.title,
        "trivial": trivial,
        "note": baseline.note,
        "fitted_rows": baseline.fitted_rows,
        "metrics": opponent.figures(settings),
        **_paired(compare(opponent.pairs[scores.gate_metric])),
    }


def champion_figures(
    champion: Champion | None, opponent: Opponent | None, scores: Scores, settings: Evaluation
) -> dict[str, Any] | None:
    """The champion as it stands in metrics.json. `opponent`: on rows that it never saw; None when the
    champion is the judged model."""
    if champion is None:
        return None
    known: dict[str, Any] = {"version": champion.version, "model_sha256": champion.model_sha256}
    known |= {"moved_from": champion.moved_from} if champion.moved_from else {}
    if opponent is None:
        return known | {"same": True, "compared": False, "note": "it is this very model", "metrics": {}}
    return known | _against(opponent, scores, settings)


def anchor_figures(
    anchor: Anchor | None, opponent: Opponent | None, scores: Scores, settings: Evaluation
) -> dict[str, Any] | None:
    """The best champion so far as it stands in metrics.json; None without one. `opponent` is None where it
    is the champion, or the judged model: nothing more is scored then."""
    if anchor is None:
        return None
    if opponent is None:
        return {"version": anchor.version, "same": True, "compared": False, "note": "", "metrics": {}}
    return {"version": anchor.version} | _against(opponent, scores, settings)


def _against(opponent: Opponent, scores: Scores, settings: Evaluation) -> dict[str, Any]:
    about: dict[str, Any] = {"same": False, "note": opponent.note, "metrics": opponent.figures(settings)}
    if not opponent.pairs:
        return about | {"compared": False}
    return about | {"compared": True, **_paired(compare(opponent.pairs[scores.gate_metric]))}


def _paired(versus: Comparison) -> dict[str, Any]:
    """By the gate's metric; above 0 the model is better."""
    return {
        "difference": round(versus.difference, 6),
        "better": versus.better,
        "worse": versus.worse,
        "p_value": versus.p_value,
    }
