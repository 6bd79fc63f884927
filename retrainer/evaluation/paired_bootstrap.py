"""A paired test for figures that no exact test knows: macro-F1, micro-F1, log loss.

Rows are drawn with replacement, for both models the same, and the difference is measured on every draw. What
is compared with the draws is the difference in units of its standard error (the bootstrap-t): plain quantiles
of the differences promise too much on few rows. The standard error is the delta method's: a figure is a
smooth function of sums over rows, so that its gradient tells what each row adds to it.
Sources: Efron, Annals of Statistics 7 (1979), 1–26; Hall, Annals of Statistics 16 (1988), 927–953.

Legend: N rows, K labels, B blocks of rows that are drawn together (up to 4,096 rows each its own), D draws,
F sums of one model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from retrainer.evaluation.answers import Answers
from retrainer.evaluation.intervals import blocks_of
from retrainer.evaluation.metrics import class_counts, log_losses

DRAWS = 4000
# Fewer rows that tell the two apart say nothing of how far the difference could have strayed.
FEWEST_TELLING = 10
_AT_ONCE = 250

# totals [D, F] → the figure [D] and its gradient [D, F]. It must not change when all sums are multiplied.
Statistic = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class PairedFigures:
    """A figure of two models on the same rows. `gain`: by how much the candidate's is better.

    `telling`: rows that the two answer differently. `p_value` is 1 where they are fewer than FEWEST_TELLING.
    """

    candidate: float
    other: float
    gain: float
    standard_error: float
    telling: int
    p_value: float


def bootstrap_test(
    metric: str, candidate: Answers, other: Answers, margin: float = 0.0, draws: int = DRAWS, seed: int = 0
) -> PairedFigures:
    """One-sided: is the candidate's `metric` better (`margin` 0), or not worse by `margin` or more?

    The answers are to the same rows. The same arguments give the same p-value, which is a multiple of
    1 / (draws + 1).
    """
    blocks = blocks_of(candidate.rows, seed)
    sign = -1.0 if metric == "log_loss" else 1.0
    # In multi-label the mean over (row, label) pairs; by one number of labels for both.
    scale = 1 / len(candidate.labels) if candidate.multi_label else 1.0
    first, second = (_sums(metric, one, blocks, scale) for one in (candidate, other))
    pair = _Pair(_STATISTICS[metric], first, second, sign)
    (mine,), (its,), (gain,), (error,) = pair.measure(np.ones((1, len(first))))
    telling = _telling(metric, candidate, other)
    p_value = 1.0
    if telling >= FEWEST_TELLING and error > 0:
        p_value = _p_value(pair, gain, (gain + margin) / error, draws, seed)
    return PairedFigures(float(mine), float(its), float(gain), float(error), telling, p_value)


@dataclass(frozen=True)
class _Pair:
    statistic: Statistic
    first: np.ndarray  # [B, F]
    second: np.ndarray  # [B, F of the other]
    sign: float

    def measure(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Times that each block was drawn [D, B] → both figures, the gain, its standard error: each [D]."""
        mine, my_gradient = self.statistic(weights @ self.first)
        its, its_gradient = self.statistic(weights @ self.second)
        # What each block adds to the difference; these sum to 0, as the figures don't depend on scale.
        influence = my_gradient @ self.first.T - its_gradient @ self.second.T
        error = np.sqrt((weights * influence**2).sum(axis=1))
        return mine, its, self.sign * (mine - its), error


def _p_value(pair: _Pair, gain: float, seen: float, draws: int, seed: int) -> float:
    """The share of draws that stray from what they are drawn from by `seen` standard errors or more."""
    blocks = len(pair.first)
    random = np.random.default_rng(seed)
    as_far = 0
    for start in range(0, draws, _AT_ONCE):
        weights = random.multinomial(blocks, np.full(blocks, 1 / blocks), size=min(_AT_ONCE, draws - start))
        _, _, gains, errors = pair.measure(weights.astype(np.float64))
        # Draws where no row tells the two apart have no error to divide by.
        as_far += int(np.sum(gains - gain >= seen * errors))
    return (1 + as_far) / (1 + draws)


def _sums(metric: str, answers: Answers, blocks: np.ndarray, scale: float) -> np.ndarray:
    return log_losses(answers, blocks) * [1, scale] if metric == "log_loss" else class_counts(answers, blocks)


def _telling(metric: str, candidate: Answers, other: Answers) -> int:
    """Rows that count differently for the two: by what was decided, or by the probability of the truth."""
    if metric == "log_loss":
        each = np.arange(candidate.rows)
        losses = (log_losses(one, each)[:, 1] for one in (candidate, other))
        return int(np.sum(np.not_equal(*losses)))
    place = {label: n for n, label in enumerate(dict.fromkeys((*candidate.labels, *other.labels)))}
    first, second = (_by_place(one, place) for one in (candidate, other))
    return int(np.sum((first != second).any(axis=1)))


def _by_place(answers: Answers, place: dict[str, int]) -> np.ndarray:
    """What was decided, comparable between models that know other labels: [N, 1], or [N, all labels]."""
    places = np.array([place[label] for label in answers.labels])
    if not answers.multi_label:
        return places[answers.decided][:, None]
    laid: np.ndarray = np.zeros((answers.rows, len(place)), dtype=bool)
    laid[:, places] = answers.decided
    return laid


def _log_loss(totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, losses = totals.T
    return losses / rows, np.stack([-losses / rows**2, 1 / rows], axis=1)


def _micro_f1(totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    right, given, support = np.split(totals, 3, axis=1)
    whole = np.maximum((given + support).sum(axis=1), 1)
    value = 2 * right.sum(axis=1) / whole
    slope = np.broadcast_to((-value / whole)[:, None], right.shape)
    return value, np.concatenate([np.broadcast_to((2 / whole)[:, None], right.shape), slope, slope], axis=1)


def _macro_f1(totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean over the classes that have rows."""
    right, given, support = np.split(totals, 3, axis=1)
    whole = np.maximum(given + support, 1)
    share = (support > 0) / np.maximum((support > 0).sum(axis=1), 1)[:, None]
    each = 2 * right / whole
    slope = -share * each / whole
    return (share * each).sum(axis=1), np.concatenate([2 * share / whole, slope, slope], axis=1)


_STATISTICS: dict[str, Statistic] = {"log_loss": _log_loss, "micro_f1": _micro_f1, "macro_f1": _macro_f1}
