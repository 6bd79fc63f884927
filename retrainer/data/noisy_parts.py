"""Labels of the texts of one language that are no better than chance, as where nobody could read them.

The rate of wrong labels is read off the rows of which a model is surest (`label_noise`). Of texts that are
unlike all others, labelled at random, it is never sure: they are seen apart.

Legend: N rows of the sample, K classes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from retrainer.data.out_of_sample import LeaveOneOut

# Fewer texts of a language tell nothing of their labels.
_LEAST_ROWS = 50
# What as many texts of the main language tell of their own labels, beyond chance: less is too little to
# compare with. The others must tell less than this part of it, and less by so many standard errors.
_LEAST_SKILL, _PART, _SIGMAS = 0.2, 0.25, 4.0


@dataclass(frozen=True)
class NoisyPart:
    """`rows` int64 [n] of the sample whose labels agree with the rows like them as often as `right` says, by
    chance `chance`; of as many of the `main` part `main_right` do."""

    language: str
    main: str
    rows: np.ndarray
    right: float
    chance: float
    main_right: float

    def said(self) -> str:
        return (
            f"training texts in {self.language} have labels that the rows like them do not bear out:"
            f" {self.right:.0%} agree, by chance {self.chance:.0%}; of as many in {self.main}, fitted alone,"
            f" {self.main_right:.0%}"
        )


def noisy_parts(languages: Sequence[str], left_out: LeaveOneOut, given: np.ndarray) -> Iterator[NoisyPart]:
    """Of the languages beside the commonest one those whose labels are about random.

    `left_out` knows the rows of the sample, int64 `given` [N] are their classes.
    """
    counts = Counter(language for language in languages if language)
    if len(counts) < 2:
        return
    main = counts.most_common(1)[0][0]
    of, answers = np.array(languages), left_out.scores(given, int(given.max()) + 1).argmax(axis=1)
    for language, count in counts.most_common()[1:]:
        if count < _LEAST_ROWS:
            return
        rows, alike = np.flatnonzero(of == language), np.flatnonzero(of == main)[:count]
        # As many of the main language, fitted alone: what so few rows can tell of their labels.
        classes, codes = np.unique(given[alike], return_inverse=True)
        fitted = LeaveOneOut(left_out.vectors[alike]).scores(codes, len(classes)).argmax(axis=1)
        right, chance, skill, error = _skill(answers[rows], given[rows])
        main_right, _, least, its_error = _skill(fitted, codes)
        noisy = skill < _PART * least and skill + _SIGMAS * math.hypot(error, its_error) < least
        if noisy and least >= _LEAST_SKILL:
            yield NoisyPart(language, main, rows, right, chance, main_right)


def _skill(answers: np.ndarray, given: np.ndarray) -> tuple[float, float, float, float]:
    """The share that is right, what chance gives, the share right beyond chance (Cohen's kappa), and its
    standard error."""
    classes = int(max(answers.max(), given.max())) + 1
    shares = [np.bincount(one, minlength=classes) / len(given) for one in (answers, given)]
    right, chance = float((answers == given).mean()), float(shares[0] @ shares[1])
    error = math.sqrt(max(right * (1 - right), 1 / len(given)) / len(given)) / (1 - chance + 1e-9)
    return right, chance, (right - chance) / (1 - chance + 1e-9), error
