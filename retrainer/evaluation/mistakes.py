"""The test rows that the model got most confidently wrong: where labels are bad, or the data misleads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

from retrainer.evaluation.answers import Answers
from retrainer.pages.thumbnails import thumbnail

if TYPE_CHECKING:
    import pyarrow as pa

MOST = 12
_MOST_CHARACTERS = 400


@dataclass(frozen=True)
class Mistake:
    """`confidence` is the probability of the row's worst decision, `truth_probability` that of the truth.

    `image` is a data URI, or empty. `where` is the row's id or origin, without any folder.
    """

    where: str
    wanted: list[str]
    decided: list[str]
    confidence: float
    truth_probability: float
    texts: list[str]
    image: str
    pixelated: bool


def mistakes(test: pa.Table, answers: Answers, columns: tuple[str, ...]) -> list[Mistake]:
    """At most MOST wrong rows, the most confident first; of equally confident ones the first row."""
    confidence, _ = _confidence(answers)
    wrong = np.flatnonzero(~answers.correct)
    return shown_rows(test, answers, columns, wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST])


def shown_rows(
    test: pa.Table, answers: Answers, columns: tuple[str, ...], numbers: np.ndarray
) -> list[Mistake]:
    """The rows of these numbers, in their order, as the report shows them."""
    confidence, truth = _confidence(answers)
    rows = test.take(numbers).to_pylist()
    found = []
    for place, row in enumerate(numbers):
        content = rows[place]
        texts = [
            _cut(content[name]) for name in ("text", "text_pair") if name in columns and content.get(name)
        ]
        image, pixelated = "", False
        where = content.get("id") or PurePath(content.get("origin") or f"row {int(row)}").name
        if "image" in columns and content.get("image"):
            image, pixelated = thumbnail(content["image"]["bytes"], where)
        found.append(
            Mistake(
                where=_cut(where, 80),
                wanted=answers.wanted(int(row)),
                decided=answers.names(int(row)),
                confidence=float(confidence[row]),
                truth_probability=float(truth[row]),
                texts=texts,
                image=image,
                pixelated=pixelated,
            )
        )
    return found


def _confidence(answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    """float64 [N] twice: how sure the model was of its (worst) decision, and what it left for the truth."""
    if not answers.multi_label:
        everyone = np.arange(answers.rows)
        return answers.probabilities.max(axis=1), answers.probabilities[everyone, answers.targets]
    for_truth = np.where(answers.targets, answers.probabilities, 1 - answers.probabilities).min(axis=1)
    return 1 - for_truth, for_truth


def _cut(text: str, most: int = _MOST_CHARACTERS) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
