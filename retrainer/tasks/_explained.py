"""Attributions of a judgement, for metrics.json and the report: what answers rest on, and whether that holds.

    note           what people read: the randomisation test and completeness, or why there are none
    warning        why the attributions must not be believed; "" where nothing says so
    randomised     {"head", "whole", "rows"} of `retrainer.attribution.randomised`; null where there are none
    completeness_error    see `retrainer.attribution.explain`
    rows           [{"row", "sample": whether it was drawn for the sample, "towards", "against", "output",
                   "baseline", and one of "words": [[column, start, end, value]], "stretches": [[start, end,
                   value]], "regions": {"rows", "columns": bounds in pixels of the model's input, "values"}}]

Legend: N test rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from retrainer.attribution.captum import version
from retrainer.attribution.explain import Explainer, completeness_error, values_of
from retrainer.attribution.randomised import MOST_CORRELATION, Randomised, randomisation_test
from retrainer.errors import ModelError
from retrainer.gate.chance import p_said
from retrainer.gate.exact import mcnemar_p_value

if TYPE_CHECKING:
    from retrainer.tasks._protocol import Judged

# Of the difference between a row and its baseline.
_MOST_MISSED = 0.1
_ALPHA = 0.05
# Enough for the order of the parts under random weights.
_ROUGH_STEPS = 8
# Rows of the randomisation test, and of its part for the head.
_TESTED, _FEW = 8, 2
# Passes forth and back that a row costs, its part of the randomisation test with it, in forward passes.
_PASSES_OF_A_ROW = 3 * 22
# Floating-point operations that a CPU may spend, and rows that are explained whatever they cost.
_MOST_OPERATIONS, _LEAST_ROWS = 1e12, 2

Attributions = dict[str, Any]


@dataclass(frozen=True)
class Chosen:
    """Test rows to explain, int64 [n], and the two outputs of each, int64 [n, 2]; the first `sampled` are the
    sample. `better`, `worse`: rows on which the model alone, or alone an answer that never looks at its
    input, is right (of numbers: nearer)."""

    rows: np.ndarray
    contrasts: np.ndarray
    sampled: int
    better: int
    worse: int


NO_ROWS = Chosen(np.zeros(0, np.int64), np.zeros((0, 2), np.int64), 0, 0, 0)


def sample_of(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the rows, evenly."""
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(np.int64)
    return np.asarray(rows[places])


def attributions(judged: Judged, chosen: Chosen) -> Attributions:
    """Of the chosen rows; the randomisation test takes the sample, or where that is empty all of them."""
    if not judged.evaluation.explain:
        return _without("No attributions: evaluation.explain is 0.")
    if not len(chosen.rows):
        return _without("No attributions: there is no row to explain.")
    wished = len(chosen.rows)
    try:
        explainer = Explainer.of(judged.predictor)
        chosen = _affordable(judged, chosen)
        table = judged.test.take(pa.array(chosen.rows))
        made = explainer.explain(table, chosen.contrasts)
    except ModelError as error:
        return _without(
            f"N{str(error)[1:]}." if str(error).startswith("no ") else f"No attributions: {error}."
        )
    found = _randomised(explainer, table, chosen, made)
    missed = completeness_error(made)
    few = f" Only {len(chosen.rows)} of {wished} rows are explained: more take too long without a GPU."
    return {
        "note": _note(found, missed, explainer.steps) + (few if len(chosen.rows) < wished else ""),
        "warning": _warning(found, missed, chosen),
        "randomised": {"head": found.head, "whole": found.whole, "rows": found.rows},
        "completeness_error": None if np.isnan(missed) else round(missed, 4),
        "rows": _plain(made, explainer.column, chosen),
    }


def _affordable(judged: Judged, chosen: Chosen) -> Chosen:
    """As many of the rows as `_MOST_OPERATIONS` allow on a CPU, a third of them of the sample. Operations are
    counted and no seconds, so that it is the same number every time."""
    if judged.predictor.device.type != "cpu":
        return chosen
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        judged.predictor.predict(judged.test.slice(int(chosen.rows[0]), 1))
    operations = max(1, counter.get_total_flops()) * _PASSES_OF_A_ROW
    most = max(_LEAST_ROWS, int(_MOST_OPERATIONS / operations))
    if most >= len(chosen.rows):
        return chosen
    mistakes = min(len(chosen.rows) - chosen.sampled, most - min(chosen.sampled, max(1, most // 3)))
    sampled = min(chosen.sampled, most - mistakes)
    kept = np.r_[:sampled, chosen.sampled : chosen.sampled + mistakes]
    return replace(chosen, rows=chosen.rows[kept], contrasts=chosen.contrasts[kept], sampled=sampled)


def _randomised(explainer: Explainer, table: pa.Table, chosen: Chosen, made: pa.Table) -> Randomised:
    rough = replace(explainer, steps=_ROUGH_STEPS)

    def explain(network: Any, count: int) -> pa.Table:
        return rough.with_network(network).explain(table.slice(0, count), chosen.contrasts[:count])

    trained = values_of(made)[:_TESTED]
    return randomisation_test(explainer.network, trained, explain, min(_FEW, len(trained)))


def figure(found: Attributions) -> dict[str, float]:
    """For tags and dashboards: the larger correlation of the randomisation test."""
    randomised = found["randomised"] or {}
    known = [randomised[name] for name in ("head", "whole") if randomised.get(name) is not None]
    return {"attribution_rank_correlation": max(known)} if known else {}


def _without(why: str) -> Attributions:
    return {"note": why, "warning": "", "randomised": None, "completeness_error": None, "rows": []}


def _note(found: Randomised, missed: float, steps: int) -> str:
    how = f"Attributions by Integrated Gradients (Captum {version()}, {steps} steps)"
    if found.largest is None:
        return f"{how}; the inputs have too few parts to compare with those under random weights."
    parts = (("a random head", found.head), ("all weights random", found.whole))
    said = " and ".join(f"{value:.2f} with {name}" for name, value in parts if value is not None)
    return (
        f"{how}. To test them, the model's weights are made random: the attributions should then be others."
        f" Their rank correlation with those of the model is {said}, on {found.rows:,} rows (1: the weights"
        f" do not matter; from {MOST_CORRELATION:g} on they fail). Together they make up what the answer"
        f" gains over an empty input, to within {missed:.1%}."
    )


def _warning(found: Randomised, missed: float, chosen: Chosen) -> str:
    if found.largest is not None and not found.passed:
        return (
            "The attributions must not be believed: they stay much the same when the model's weights are"
            f" random (rank correlation {found.largest:.2f})."
        )
    p = mcnemar_p_value(chosen.better, chosen.worse)
    if p > _ALPHA:
        return (
            "The attributions must not be believed: the model is not shown to do better than an answer that"
            f" never looks at its input ({p_said(p)}), so they explain guesses."
        )
    if missed > _MOST_MISSED:
        return f"The attributions are rough: {missed:.0%} of what they should add up to is missing."
    return ""


def _plain(made: pa.Table, column: str, chosen: Chosen) -> list[dict[str, Any]]:
    rows = []
    for place, one in enumerate(made.to_pylist()):
        about = {name: one[name] for name in ("towards", "against")}
        about |= {name: float(f"{one[name]:.7g}") for name in ("output", "baseline")}
        about |= {"row": int(chosen.rows[place]), "sample": place < chosen.sampled}
        rows.append(about | {column: _PLAIN[column](one[column])})
    return rows


def _words(parts: Sequence[dict[str, Any]]) -> list[list[Any]]:
    return [[one["column"], one["start"], one["end"], _short(one["value"])] for one in parts]


def _stretches(parts: Sequence[dict[str, Any]]) -> list[list[float]]:
    return [[_short(one[name]) for name in ("start", "end", "value")] for one in parts]


def _regions(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    bounds = {
        "rows": sorted({one[side] for one in parts for side in ("top", "bottom")}),
        "columns": sorted({one[side] for one in parts for side in ("left", "right")}),
    }
    return {**bounds, "values": [_short(one["value"]) for one in parts]}


_PLAIN: dict[str, Any] = {"words": _words, "regions": _regions, "stretches": _stretches}


def _short(value: float) -> float:
    """Four digits are more than anyone reads."""
    return float(f"{value:.4g}")
