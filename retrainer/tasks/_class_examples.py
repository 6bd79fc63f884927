"""The test rows that the model got most confidently wrong: where labels are bad, or the data misleads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from retrainer.pages.players import player
from retrainer.pages.thumbnails import thumbnail
from retrainer.texts import shortened

if TYPE_CHECKING:
    from retrainer.metrics._classes import Classes

MOST = 12
MOST_CHARACTERS = 400


@dataclass(frozen=True)
class Mistake:
    """`confidence` is the probability of the row's worst decision, `truth_probability` that of the truth.

    `image` is a data URI, or empty; `sound` a player, or empty. `where` is the row's id or origin, without
    any folder; `row` its number among the test rows.
    """

    where: str
    truth: list[str]
    decided: list[str]
    confidence: float
    truth_probability: float
    texts: list[str]
    image: str
    pixelated: bool
    sound: str = ""
    row: int = -1


def mistakes(test: pa.Table, found: Classes, columns: tuple[str, ...]) -> list[Mistake]:
    """The rows of `surest_mistakes`."""
    return shown_rows(test, found, columns, surest_mistakes(found))


def surest_mistakes(found: Classes) -> np.ndarray:
    """int64 [at most MOST]: wrong rows, the most confident first; of equally confident ones the first row."""
    confidence, _ = _confidence(found)
    wrong = np.flatnonzero(~found.correct)
    return np.asarray(wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST])


def shown_rows(
    test: pa.Table, found: Classes, columns: tuple[str, ...], numbers: Sequence[int] | np.ndarray
) -> list[Mistake]:
    """The rows of these numbers, in their order, as the report shows them."""
    confidence, of_truth = _confidence(found)
    rows = test.take(pa.array(numbers, pa.int64())).to_pylist()
    shown = []
    for place, row in enumerate(numbers):
        content = rows[place]
        texts = [
            shortened(content[name], MOST_CHARACTERS)
            for name in ("text", "text_pair")
            if name in columns and content.get(name)
        ]
        image, pixelated = "", False
        where = row_place(content, int(row))
        if "image" in columns and content.get("image"):
            image, pixelated = thumbnail(content["image"]["bytes"], where)
        heard = "audio" in columns and content.get("audio")
        shown.append(
            Mistake(
                where=shortened(where, 80),
                truth=_named(found.names, found.targets[row]),
                decided=_named(found.names, found.decided[row]),
                confidence=float(confidence[row]),
                truth_probability=float(of_truth[row]),
                texts=texts,
                image=image,
                pixelated=pixelated,
                sound=player(content["audio"]["bytes"], where) if heard else "",
                row=int(row),
            )
        )
    return shown


def row_place(content: dict[str, Any], row: int) -> str:
    """A row's id or origin, without any folder."""
    return str(content.get("id") or PurePath(content.get("origin") or f"row {row}").name)


def _named(names: tuple[str, ...], chosen: np.ndarray) -> list[str]:
    return [names[int(place)] for place in np.flatnonzero(chosen)]


def _confidence(found: Classes) -> tuple[np.ndarray, np.ndarray]:
    """float64 [N] twice: how sure the model was of its (worst) decision, and what it left for the truth."""
    if not found.multi_label:
        return found.probabilities.max(axis=1), found.probabilities[found.targets]
    of_truth = np.where(found.targets, found.probabilities, 1 - found.probabilities).min(axis=1)
    return 1 - of_truth, of_truth
