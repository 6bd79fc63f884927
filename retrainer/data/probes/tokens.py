"""A token that stands in the texts of one class and nowhere else, and is no word that the class is about.

A word may give its class away by right: nearly every question about a PIN has 'PIN' in it. So a word counts
only where it stands in all texts of its class, or always at the same end of them; what is no word (an
identifier, a mark, white space) counts as soon as most texts of the class have it.

Legend: N rows, T tokens, K classes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from retrainer.data.probes._rows import LEAST_ROWS, NO_CONTENT, Sample, Shortcut, precise

# A word must be in this share of its class's texts; one at a fixed place in this share.
_WORD_SHARE, _PLACED_SHARE = 0.98, 0.9
# Of a sign that people use (a currency, a hashtag): as of words at a fixed place.
_FIXED = 0.95
# Where each class has such a word, and they are this share of all rows, nothing else need be learned.
_MOST_ROWS_OF_ALL = 0.95
_MOST_ROWS = 20_000
_CHARACTERS = 2000
_AROUND = ".,?!;:'\"()“”‘’…"
_NUMBER = re.compile(r"[\W\d]+")
_WHITE = {
    "a space at its start": r"^\s",
    "a space at its end": r"\s$",
    "two spaces in a row": r"  ",
    "a tab": "\t",
    "a line break": r"\n",
}
_WHITE_SPACE = {name: re.compile(pattern) for name, pattern in _WHITE.items()}


@dataclass(frozen=True)
class _Counts:
    """Of each token, int64 [T]: the class that most texts to fit have it with; of the other texts, how many
    of that class have it (`hits`), and how many of all (`said`); of all texts, how many have it (`had`), and
    at one end (`placed`). Never an array of tokens times classes, of both of which there may be many."""

    tokens: list[str]
    classes: np.ndarray
    hits: np.ndarray
    said: np.ndarray
    had: np.ndarray
    placed: np.ndarray


def is_word(token: str) -> bool:
    """Letters of any script, with the marks that are written on them; parts joined by ' or -."""
    parts = re.split(r"['’-]", unicodedata.normalize("NFC", token))
    return all(part[:1].isalpha() and all(_is_letter(sign) for sign in part) for part in parts)


def _is_letter(sign: str) -> bool:
    return sign.isalpha() or unicodedata.category(sign).startswith("M")


def probe(rows: Sample) -> Iterator[Shortcut]:
    for name in rows.columns.inputs_of("string"):
        some = rows.first(_MOST_ROWS)
        yield from _of_column(some, name, some.table[name].to_pylist())


def _of_column(rows: Sample, column: str, texts: Sequence[str | None]) -> Iterator[Shortcut]:
    counts = _counted(rows, [(text or "")[:_CHARACTERS] for text in texts])
    if not len(counts.tokens):
        return
    classes, hits, said = counts.classes, counts.hits, counts.said
    had = np.bincount(rows.codes[~rows.fit], minlength=len(rows.names))
    least = np.array([_least(token, placed) for token, placed in _places(counts)])
    share = had / max(1, had.sum())
    found = (hits >= LEAST_ROWS) & (hits >= least * had[classes]) & precise(hits, said, share[classes])
    by_class: dict[int, int] = {}  # class → its plainest token
    for token in sorted(
        np.flatnonzero(found).tolist(), key=lambda one: _rank(counts.tokens[one], int(hits[one]))
    ):
        by_class.setdefault(int(classes[token]), token)
    of_classes = [*by_class]
    always = hits[[*by_class.values()]] >= _WORD_SHARE * had[of_classes]
    common = any(_is_common(counts.tokens[token]) for token in by_class.values())
    every = had[of_classes].sum() >= _MOST_ROWS_OF_ALL * had.sum() and always.all()
    if len(of_classes) > 1 and every and common:
        yield _of_every_class(rows, column, counts, by_class, had)
        return
    for code, token in by_class.items():
        yield _shortcut(rows, column, counts, code, token, had)


def _rank(token: str, hits: int) -> tuple[bool, int, str]:
    """The plainest case first, of several tokens of one class."""
    return _is_common(token), -hits, token


def _shortcut(rows: Sample, column: str, counts: _Counts, code: int, token: int, had: np.ndarray) -> Shortcut:
    """One token's: `accuracy` is that of "this class, or none of its texts"."""
    hits, said, total = int(counts.hits[token]), int(counts.said[token]), int(had.sum())
    wrong = (said - hits) + int(had[code]) - hits
    name = counts.tokens[token]
    what = name if name in _WHITE else f"the token '{name}'"
    where = f"{what} in the {column.replace('_', ' ')}"
    majority = max(int(had[code]), total - int(had[code])) / total
    certain = not _is_common(name) and hits >= _PLACED_SHARE * had[code]
    return Shortcut(where, (rows.names[code],), 1 - wrong / total, majority, total, certain=certain)


def _of_every_class(
    rows: Sample, column: str, counts: _Counts, by_class: dict[int, int], had: np.ndarray
) -> Shortcut:
    """Of classes that each have a token of their own in all of their texts: no texts of people look so."""
    shown = ", ".join(f"'{counts.tokens[token]}'" for _, token in sorted(by_class.items())[:3])
    where = f"a token of its own in each class's {column.replace('_', ' ')} ({shown}, …)"
    classes, total = tuple(rows.names[code] for code in sorted(by_class)), int(had.sum())
    right = int(counts.hits[[*by_class.values()]].sum())
    return Shortcut(where, classes, right / total, had.max() / total, total, certain=True)


def _places(counts: _Counts) -> Iterator[tuple[str, bool]]:
    return zip(counts.tokens, counts.placed >= _FIXED * counts.had, strict=True)


def _least(token: str, placed: bool) -> float:
    if not _is_common(token):
        return NO_CONTENT
    return _PLACED_SHARE if placed and is_word(token) else _WORD_SHARE


def _is_common(token: str) -> bool:
    """Words, numbers, single signs and white space are in people's texts; `zq_17` and `<s3>` are not."""
    return bool(token in _WHITE or len(token) == 1 or is_word(token) or _NUMBER.fullmatch(token))


def _counted(rows: Sample, texts: Sequence[str]) -> _Counts:
    numbers: dict[str, int] = {}
    pairs: list[tuple[int, int, bool]] = []
    for row, text in enumerate(texts):
        ordered = [token.strip(_AROUND) or token for token in text.split()]
        ends = {*ordered[:1], *ordered[-1:]}
        for token in {*ordered, *_signs(text)}:
            pairs.append((numbers.setdefault(token, len(numbers)), row, token in ends))
    tokens, where, at_end = np.array(pairs, np.int64).reshape(-1, 3).T
    frequent = np.bincount(tokens, minlength=len(numbers)) >= LEAST_ROWS
    names, kept = [name for name, n in numbers.items() if frequent[n]], frequent[tokens]
    renamed = np.cumsum(frequent) - 1
    tokens, where, at_end = renamed[tokens[kept]], where[kept], at_end[kept]
    fit, size, codes = rows.fit[where], len(names), tokens * len(rows.names) + rows.codes[where]
    classes = _commonest(codes[fit], size, len(rows.names))
    hits = np.bincount(tokens[~fit], classes[tokens[~fit]] == rows.codes[where[~fit]], size)
    said, had = np.bincount(tokens[~fit], minlength=size), np.bincount(tokens, minlength=size)
    placed = np.bincount(tokens, at_end, size).astype(np.int64)
    return _Counts(names, classes, hits.astype(np.int64), said, had, placed)


def _commonest(codes: np.ndarray, tokens: int, classes: int) -> np.ndarray:
    """int64 [T]: of `token * classes + class` the class that each token has most often, the first of equals;
    0 for a token that has none."""
    pairs, counts = np.unique(codes, return_counts=True)
    token, of_class = np.divmod(pairs, classes)
    order = np.lexsort((of_class, -counts, token))
    some, first = np.unique(token[order], return_index=True)
    found: np.ndarray = np.zeros(tokens, np.int64)
    found[some] = of_class[order][first]
    return found


def _signs(text: str) -> Iterable[str]:
    """Characters that are neither letter nor digit nor common punctuation, and kinds of white space."""
    yield from {one for one in text if not one.isalnum() and not one.isspace() and one not in _AROUND}
    yield from (name for name, pattern in _WHITE_SPACE.items() if pattern.search(text))
