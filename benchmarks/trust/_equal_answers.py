"""How often the gate calls one of two equal models better, by metrics of boxes and of texts.

Both models are equal by construction: for every test row a fair coin says which one answers for the
candidate; the other answers for the champion. Rows and answers are synthetic, with the traits of real ones: a
difficulty of each object, word or row that both models share, and noise of their own. Each trial has a test
set of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from retrainer import metrics
from retrainer.formats.columns import TYPES
from retrainer.formats.names import CORNERS
from retrainer.gate.compare import compare
from retrainer.gate.measured import measure
from retrainer.gate.pair import Pair
from retrainer.tasks._found_boxes import FOUND, with_most_boxes

Row = dict[str, float | int | str]
# Of each row: a list of boxes, or a text.
Answers = list[Any]
# Rows and a generator → two models' answers and the truth, each [rows].
Maker = Callable[[int, np.random.Generator], tuple[Answers, Answers, Answers]]

ALPHA = 0.05
CLASSES, SHARES = ("a", "b", "c"), (0.7, 0.2, 0.1)
SIDE_PIXELS = 400.0
WORDS = np.array([f"w{n}" for n in range(300)])


def equal_answers(metric: str, rows: int, trials: int, seed: int) -> Row:
    """The share of the trials in which the gate calls the candidate better; at most ALPHA is agreed."""
    draw, module = np.random.default_rng((seed, rows)), metrics.load(metric, "metric")
    better, discordant, values = 0, 0, []
    for _ in range(trials):
        first, second, truth = MAKERS[metric](rows, draw)
        swapped = (draw.random(rows) < 0.5).tolist()
        both = zip(first, second, swapped, strict=True)
        mine, its = zip(*((b, a) if swap else (a, b) for a, b, swap in both), strict=True)
        found = compare(_pair(module, metric, (mine, its), truth))
        better += found.p_value <= ALPHA
        discordant += found.discordant
        values.append(found.candidate)
    share = better / trials
    about: Row = {"metric": metric, "rows": rows, "trials": trials, "mean value": float(np.mean(values))}
    about["answered differently"] = round(discordant / trials / rows, 4)
    return about | {"better": share, "standard error": float(np.sqrt(share * (1 - share) / trials))}


def _pair(module: Any, metric: str, sides: Sequence[Sequence[Any]], truth: Answers) -> Pair:
    boxes = isinstance(truth[0], list)
    column, target = ("boxes", "boxes") if boxes else ("prediction", "target_text")
    kind = pa.list_(FOUND) if boxes else pa.string()
    tables = [pa.table({column: pa.array(side, kind)}) for side in sides]
    true = pa.table({target: pa.array(truth, TYPES["boxes" if boxes else "string"])})
    if boxes:
        tables = list(with_most_boxes(tables[0], tables[1]))
    return Pair(*(measure(module, metric, table, true) for table in tables))


def detections(rows: int, draw: np.random.Generator) -> tuple[Answers, Answers, Answers]:
    """Two detectors with the same skill: scores fall, and boxes lie worse, with an object's difficulty; some
    classes are confused; what is no object, but looks like one to both, is often found."""
    found: tuple[Answers, Answers] = ([], [])
    true: Answers = []
    for _ in range(rows):
        count = 1 + draw.poisson(3)
        labels = draw.choice(CLASSES, count, p=SHARES)
        boxes, hard = _boxes(count, draw), draw.normal(size=count)
        likenesses = _boxes(draw.poisson(1.5), draw)
        true.append([_box(label, corners) for label, corners in zip(labels, boxes, strict=True)])
        for side in found:
            side.append(_detected(labels, boxes, hard, draw) + _false_alarms(likenesses, draw))
    return *found, true


def _boxes(count: int, draw: np.random.Generator) -> np.ndarray:
    """[count, 4]: left, top, right, bottom."""
    sides = np.exp(draw.normal(4.0, 0.5, (count, 2))).clip(12, 200)
    start = draw.random((count, 2)) * (SIDE_PIXELS - sides)
    return np.concatenate([start, start + sides], axis=1)


def _detected(labels: Any, boxes: np.ndarray, hard: np.ndarray, draw: np.random.Generator) -> Answers:
    count = len(boxes)
    scores = 1 / (1 + np.exp(-(1.2 - 1.1 * hard + 0.8 * draw.normal(size=count))))
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    moved = boxes + sides * (0.07 * np.exp(0.6 * hard))[:, None] * draw.normal(size=(count, 4))
    given = np.where(draw.random(count) < 0.06, draw.choice(CLASSES, count), labels)
    seen = zip(given, moved, scores, strict=True)
    return [_box(label, corners, score) for label, corners, score in seen if score > 0.1]


def _false_alarms(likenesses: np.ndarray, draw: np.random.Generator) -> Answers:
    own = _boxes(draw.poisson(0.7), draw)
    boxes = np.concatenate([likenesses[draw.random(len(likenesses)) < 0.6], own])
    labels, scores = draw.choice(CLASSES, len(boxes), p=SHARES), draw.beta(1.5, 3, len(boxes))
    return [_box(*one) for one in zip(labels, boxes, scores, strict=True)]


def _box(label: str, corners: np.ndarray, *score: float) -> dict[str, Any]:
    left, top, right, bottom = corners.tolist()
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    found = {"label": str(label), **dict(zip(CORNERS, (left, top, right, bottom), strict=True))}
    return found | ({"score": float(score[0])} if score else {})


def transcripts(rows: int, draw: np.random.Generator) -> tuple[Answers, Answers, Answers]:
    """Two models that hear the same words, about every ninth of them wrong."""
    return _texts(rows, -3.0, draw)


def translations(rows: int, draw: np.random.Generator) -> tuple[Answers, Answers, Answers]:
    """Two models that translate the same sentences, some words other than the reference's."""
    return _texts(rows, -1.0, draw)


def _texts(rows: int, errors: float, draw: np.random.Generator) -> tuple[Answers, Answers, Answers]:
    """`errors`: log odds of an error in a word and a row of mean difficulty."""
    found: tuple[Answers, Answers] = ([], [])
    true: Answers = []
    for _ in range(rows):
        words = WORDS[(draw.zipf(1.3, 4 + draw.poisson(8)) - 1) % len(WORDS)]
        hard = errors + 1.2 * draw.normal() + 1.2 * draw.normal(size=len(words))
        true.append(" ".join(words))
        for side in found:
            side.append(" ".join(_misheard(words, hard + 0.8 * draw.normal(size=len(words)), draw)))
    return *found, true


def _misheard(words: np.ndarray, hard: np.ndarray, draw: np.random.Generator) -> Iterator[str]:
    """Of the errors seven in ten put another word, the others leave one out, or put in one more."""
    wrong, kinds = draw.random(len(words)) < 1 / (1 + np.exp(-hard)), draw.random(len(words))
    others = WORDS[(draw.zipf(1.3, len(words)) - 1) % len(WORDS)]
    for word, is_wrong, kind, other in zip(words, wrong, kinds, others, strict=True):
        if not is_wrong or kind > 0.85:
            yield str(word)
        if is_wrong and not 0.7 < kind <= 0.85:
            yield str(other)


MAKERS: dict[str, Maker] = {
    "average_precision_50": detections,
    "word_error_rate": transcripts,
    "bleu": translations,
}
