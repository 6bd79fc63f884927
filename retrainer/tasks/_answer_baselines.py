"""What little effort answers to a prompt: always the commonest answer, or that of the most similar prompt.

Each says how probable it holds any answer, so that perplexity judges it too: as often as its own answer was
right on training rows it says that one, and else letters as they follow each other in the training answers.
Legend: N test rows.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from retrainer.tasks._protocol import Baseline, Baselines

if TYPE_CHECKING:
    from retrainer.settings import Evaluation

# Of the training rows one in so many, and at most so many, tell how often the nearest one is right.
_HELD_OUT, _MOST_HELD_OUT = 5, 1000
# By how many bytes before it a byte is guessed, and of how many it is learned.
_BEFORE, _MOST_LETTERS = 4, 300_000
_START, _END = "\ue000", "\ue001"  # no byte is one of these


def baselines(train: pa.Table, test: pa.Table, evaluation: Evaluation) -> Baselines:
    """The first never looks at the prompt."""
    answers = _texts(train, "target_text")
    letters = _Letters(answers)
    commonest, times = Counter(answers).most_common(1)[0]
    always = _table([commonest] * len(test), test, times / len(answers), letters)
    first = Baseline("commonest_answer", "always the commonest answer", always, len(train))
    if not evaluation.baseline:
        return Baselines((first,), "evaluation.baseline is false")
    from retrainer.tasks._nearest_text import nearest_translations

    share = _share_right(train)
    found = nearest_translations(train, test)["prediction"].to_pylist()
    nearest = _table(found, test, share, letters)
    note = f"on held-out training rows it is right {share:.1%} of the time, which its perplexity goes by"
    title = "the answer to the most similar training prompt"
    return Baselines((first, Baseline("nearest_prompt", title, nearest, len(train), note)))


def _share_right(train: pa.Table) -> float:
    """How often the most similar of the other training prompts has the very answer, never 0 or 1."""
    from retrainer.tasks._nearest_text import nearest_translations

    asked = np.arange(0, len(train), _HELD_OUT)[:_MOST_HELD_OUT]
    kept = np.setdiff1d(np.arange(len(train)), asked)
    if not len(kept):
        return 0.5
    held = train.take(pa.array(asked))
    found = nearest_translations(train.take(pa.array(kept)), held)["prediction"].to_pylist()
    right = sum(one == other for one, other in zip(found, _texts(held, "target_text"), strict=True))
    return (right + 1) / (len(asked) + 2)


def _texts(table: pa.Table, column: str) -> list[str]:
    return [text or "" for text in table[column].to_pylist()]


def _table(said: list[str], test: pa.Table, share: float, letters: _Letters) -> pa.Table:
    """`prediction` and `nats` of the expected answer; its tokens are those of the model beside it."""
    share = min(share, 1 - 1e-6)
    expected = _texts(test, "target_text")
    nats = [
        -np.logaddexp(math.log(share) if mine == truth else -np.inf, math.log1p(-share) - letters.nats(truth))
        for mine, truth in zip(said, expected, strict=True)
    ]
    return pa.table({"prediction": pa.array(said, pa.string()), "nats": pa.array(nats, pa.float64())})


class _Letters:
    """How probable a text is, byte after byte, each by the up to four before it.

    What followed as many bytes counts beside one guess of what follows one fewer (a Dirichlet prior, MacKay
    and Peto 1995); in the end all bytes are as likely.
    """

    def __init__(self, texts: list[str]) -> None:
        self._seen: Counter[str] = Counter()
        self._followed: Counter[str] = Counter()
        left = _MOST_LETTERS
        for text in texts:
            if left <= 0:
                break
            letters = _spelled(text)
            left -= len(letters)
            for at in range(_BEFORE, len(letters)):
                for before in range(_BEFORE + 1):
                    self._seen[letters[at - before : at + 1]] += 1
                    self._followed[letters[at - before : at]] += 1

    def nats(self, text: str) -> float:
        letters = _spelled(text)
        return -sum(self._log(letters, at) for at in range(_BEFORE, len(letters)))

    def _log(self, letters: str, at: int) -> float:
        share = 1 / 257
        for before in range(_BEFORE + 1):
            seen, followed = (
                self._seen[letters[at - before : at + 1]],
                self._followed[letters[at - before : at]],
            )
            share = (seen + share) / (followed + 1)
        return math.log(share)


def _spelled(text: str) -> str:
    """A letter for each byte, behind those of a beginning and before that of an end."""
    return _START * _BEFORE + text.encode().decode("latin-1") + _END
