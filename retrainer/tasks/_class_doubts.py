"""What a model sees in the data that preprocess could not: labels to doubt, and test rows like training rows.

Both are found with the model that is judged, on test rows, which it was never trained on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from retrainer.findings import Findings
from retrainer.label_errors import suspected
from retrainer.tasks._class_examples import row_place
from retrainer.tasks._neighbours import nearest

if TYPE_CHECKING:
    from retrainer.metrics._classes import Classes
    from retrainer.tasks._embedded import Embedded
    from retrainer.tasks._protocol import Judged

LABELS, NEIGHBOURS = "label_errors", "embedding_duplicates"
# Of rows and of pairs that are kept for the report.
MOST = 12


def doubts(judged: Judged, found: Classes, embedded: Embedded) -> dict[str, Any]:
    """`checks`: what was found, as `data` of metrics.json has it; and the first rows and pairs, by number:
    `label_errors` [test row], `embedding_duplicates` [[test row, training row, cosine]].

    Looks as far as `checks.label_errors` and `checks.near_duplicates` ask for it. Raises UserError when
    labels are doubted and `checks.label_errors` is `error`. Features that are alike are no proof of a
    duplicate, so that they never stop a run.
    """
    findings = Findings(judged.checks)
    labels = _labels(judged, found, findings) if findings.looks(LABELS) else []
    findings.stop()
    pairs = [] if judged.checks.near_duplicates == "off" else _pairs(judged, findings, embedded)
    shares = [one | {"share": round(one["count"] / len(judged.test), 6)} for one in findings.plain()]
    return {"checks": shares, LABELS: labels, NEIGHBOURS: pairs}


def _labels(judged: Judged, found: Classes, findings: Findings) -> list[int]:
    if found.multi_label:
        findings.add(LABELS, 0, "labels doubted: rows of several labels are not looked at")
        return []
    given = found.targets.argmax(axis=1)
    # Of a label that the model does not know it has no opinion.
    known = np.flatnonzero(given < len(judged.predictor.labels))
    rows = known[suspected(found.probabilities[known], given[known])]
    note = f"of {len(judged.test):,} test rows have a label that the model has good reason to doubt"
    shown = judged.test.take(pa.array(rows[:MOST])).to_pylist()
    places = (row_place(content, int(row)) for row, content in zip(rows, shown, strict=False))
    findings.add(LABELS, len(rows), note, places, "correct the labels")
    return [int(row) for row in rows[:MOST]]


def _pairs(judged: Judged, findings: Findings, embedded: Embedded) -> list[list[float]]:
    near = nearest(embedded.test, embedded.train)
    note = f"of {len(judged.test):,} test rows look to the model almost like one of {embedded.among}"
    findings.add(NEIGHBOURS, len(near.test), f"{note} (by its features)")
    pairs = zip(near.test, embedded.rows[near.train], near.cosine, strict=True)
    return [[int(one), int(other), round(float(cosine), 6)] for one, other, cosine in list(pairs)[:MOST]]
