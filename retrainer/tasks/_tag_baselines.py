"""What little effort gives: the commonest tag of all, and each word's own commonest tag.

Words count as they are written, with their capitals. Legend: N rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from retrainer.formats.words import words_of
from retrainer.tasks._protocol import Baseline, Baselines, CheapCurve

if TYPE_CHECKING:
    import numpy as np

    from retrainer.settings import Evaluation

_OF_WORDS = "each word's commonest tag in the training rows"

# A row's words, each with its tag.
Sentence = Sequence[tuple[str, str]]


class _Learned(NamedTuple):
    """Each word's commonest tag, and that of all words for those that were never seen."""

    own: Mapping[str, str]
    commonest: str

    def answers(self, rows: Iterable[Sequence[str]]) -> pa.Table:
        tags = [[self.own.get(word, self.commonest) for word in words] for words in rows]
        return pa.table({"tags": pa.array(tags, pa.list_(pa.string()))})


def baselines(train: pa.Table, test: pa.Table, evaluation: Evaluation) -> Baselines:
    """The first one never looks at a word."""
    learned, words = _learned(_tagged(train)), _words(test)
    title = f"always the tag {learned.commonest}"
    always = learned._replace(own={}).answers(words)
    majority = Baseline("majority", title, always, len(train))
    if not evaluation.baseline:
        return Baselines((majority,), "evaluation.baseline is false")
    note = f"a word that no training row has: {learned.commonest}"
    own = Baseline("word_majority", _OF_WORDS, learned.answers(words), len(train), note)
    return Baselines((majority, own))


def cheap_curve(train: pa.Table, test: pa.Table, draws: Sequence[Sequence[np.ndarray]]) -> CheapCurve:
    """`draws`: of each draw the nested parts, as row numbers of `train`."""
    tagged, words = _tagged(train), _words(test)
    answers = [
        (len(part), _learned([tagged[row] for row in part]).answers(words))
        for parts in draws
        for part in parts
    ]
    return CheapCurve(_OF_WORDS, tuple(answers))


def _learned(rows: Iterable[Sentence]) -> _Learned:
    of_words: defaultdict[str, Counter[str]] = defaultdict(Counter)
    every: Counter[str] = Counter()
    for row in rows:
        for word, tag in row:
            of_words[word][tag] += 1
            every[tag] += 1
    return _Learned({word: _commonest(tags) for word, tags in of_words.items()}, _commonest(every))


def _commonest(tags: Counter[str]) -> str:
    """Of equally common ones the first by name."""
    return min(tags, key=lambda tag: (-tags[tag], tag))


def _tagged(table: pa.Table) -> list[Sentence]:
    tags = table["tags"].to_pylist()
    return [list(zip(words, row or (), strict=False)) for words, row in zip(_words(table), tags, strict=True)]


def _words(table: pa.Table) -> list[list[str]]:
    return [words_of(text or "") for text in table["text"].to_pylist()]
