"""What a model sees in the data that preprocess could not: labels to doubt, and leaks into the test rows.

Both are found with the model that is judged, on test rows, which it was never trained on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from retrainer.evaluation.answers import Answers
from retrainer.evaluation.embedding_duplicates import likest
from retrainer.evaluation.label_errors import suspected
from retrainer.evaluation.mistakes import MOST, Mistake, shown_rows
from retrainer.findings import Findings
from retrainer.pages.pairs import side
from retrainer.settings import Checks

if TYPE_CHECKING:
    from retrainer.predict import Predictor

LABELS, LEAKS = "label_errors", "embedding_duplicates"
# More training rows than this are sampled evenly: their features would cost more than the evaluation.
MOST_TRAINING_ROWS = 5_000
MOST_PAIRS = 12


@dataclass(frozen=True)
class Doubts:
    """`checks`: what was found, as metrics.json has it. `labels` and `leaks`: the first rows, and the first
    pairs (two sides as HTML, their cosine), for the report."""

    checks: list[dict[str, Any]] = field(default_factory=list)
    labels: list[Mistake] = field(default_factory=list)
    leaks: list[tuple[str, str, float]] = field(default_factory=list)

    def said(self, name: str) -> str:
        """The sentence for a check's section; "" where it did not look."""
        found = next((check for check in self.checks if check["name"] == name), None)
        if found is None or found["level"] == "off":
            return ""
        return f"{found['count']:,} {found['note']}."


NO_DOUBTS = Doubts()


def doubts(predictor: Predictor, train: pa.Table, test: pa.Table, told: Answers, checks: Checks) -> Doubts:
    """Looks for both, as far as `checks.label_errors` and `checks.near_duplicates` ask for it.

    Raises UserError when labels are doubted and `checks.label_errors` is `error`. A likeness of features is
    no proof, so that it never stops a run.
    """
    findings = Findings(checks)
    labels = _labels(predictor, test, told, findings) if findings.looks(LABELS) else []
    leaks = [] if checks.near_duplicates == "off" else _leaks(predictor, train, test, findings)
    found = [one | {"share": round(one["count"] / len(test), 6)} for one in findings.plain()]
    return Doubts(found, labels, leaks)


def _labels(predictor: Predictor, test: pa.Table, told: Answers, findings: Findings) -> list[Mistake]:
    if told.multi_label:
        findings.add(LABELS, 0, "labels doubted: rows of several labels are not looked at")
        return []
    # Of a label that the model does not know it has no opinion.
    known = np.flatnonzero(told.targets < len(predictor.labels))
    rows = known[suspected(told.probabilities[known], told.targets[known])]
    shown = shown_rows(test, told, predictor.task.columns, rows[:MOST])
    note = f"of {len(test):,} test rows have a label that the model has good reason to doubt"
    findings.add(LABELS, len(rows), note, (one.where for one in shown), "correct the labels")
    return shown


def _leaks(
    predictor: Predictor, train: pa.Table, test: pa.Table, findings: Findings
) -> list[tuple[str, str, float]]:
    chosen, among = train, f"{len(train):,} training rows"
    if len(train) > MOST_TRAINING_ROWS:
        places = np.linspace(0, len(train) - 1, MOST_TRAINING_ROWS).astype(np.int64).tolist()
        # Slices copy nothing, and the bytes of many images do not fit into one array of Arrow's.
        chosen = pa.concat_tables([train.slice(row, 1) for row in places])
        among = f"{MOST_TRAINING_ROWS:,} of {len(train):,} training rows"
    near = likest(predictor.features(test), predictor.features(chosen))
    columns = predictor.task.columns
    note = f"of {len(test):,} test rows are to the model twins of one of {among} (by its features)"
    findings.add(LEAKS, len(near.test), note)
    pairs = zip(near.test.tolist(), near.train.tolist(), near.cosine.tolist(), strict=True)
    return [
        (side(test, one, columns), side(chosen, other, columns), cosine)
        for one, other, cosine in list(pairs)[:MOST_PAIRS]
    ]
