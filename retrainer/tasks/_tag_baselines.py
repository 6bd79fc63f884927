"""What little effort gives: the commonest tag of all, and each word's own commonest tag. Legend: N rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from retrainer.formats.words import words_of
from retrainer.tasks._protocol import Baseline, Baselines

if TYPE_CHECKING:
    from retrainer.settings import Evaluation


def baselines(train: pa.Table, test: pa.Table, evaluation: Evaluation) -> Baselines:
    """The first one never looks at a word. Words count as they are written, with their capitals."""
    of_words: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for word, tag in _tagged(train):
        of_words[word][tag] += 1
    commonest = _commonest(sum(of_words.values(), Counter()))
    title = f"always the tag {commonest}"
    always = Baseline("majority", title, _table(test, {}, commonest), len(train))
    if not evaluation.baseline:
        return Baselines((always,), "evaluation.baseline is false")
    own = {word: _commonest(tags) for word, tags in of_words.items()}
    each = Baseline(
        "word_majority",
        "each word's commonest tag in the training rows",
        _table(test, own, commonest),
        len(train),
        f"a word that no training row has: {commonest}",
    )
    return Baselines((always, each))


def _tagged(table: pa.Table) -> Iterator[tuple[str, str]]:
    for text, tags in zip(table["text"].to_pylist(), table["tags"].to_pylist(), strict=True):
        yield from zip(words_of(text or ""), tags or (), strict=False)


def _commonest(tags: Counter[str]) -> str:
    """Of equally common ones the first by name."""
    return min(tags, key=lambda tag: (-tags[tag], tag))


def _table(test: pa.Table, own: Mapping[str, str], otherwise: str) -> pa.Table:
    rows = [[own.get(word, otherwise) for word in words_of(text or "")] for text in test["text"].to_pylist()]
    return pa.table({"tags": pa.array(rows, pa.list_(pa.string()))})
