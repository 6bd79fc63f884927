"""Texts as vectors: TF-IDF of words and word pairs, hashed into few dimensions.

Legend: N texts, D dimensions.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from retrainer.data.splits import normalised

DIMENSIONS = 1024
# Of a longer text the beginning is read.
_CHARACTERS = 2000
_WORD = re.compile(r"\w+")
# Fewer words than one in so many characters: a language that is written without spaces.
_CHARACTERS_A_WORD = 12
_GRAM = 2


def text_vectors(texts: Sequence[str]) -> np.ndarray:
    """float32 [N, D], rows of length 1 (0 for a text without a word).

    Each word and each pair of neighbouring words is added or subtracted in the dimension of its hash, which
    keeps inner products in expectation (Weinberger et al., 2009), with the weight (1 + log count) of the
    text times log(N / texts that have it).
    """
    spaced = sum(len(text.split()) for text in texts) * _CHARACTERS_A_WORD >= sum(map(len, texts))
    parts = _words if spaced else _characters
    hashes, rows = [], []
    for row, text in enumerate(texts):
        found = [
            zlib.crc32(part.encode("utf-8", "surrogatepass"))
            for part in parts(normalised(text[:_CHARACTERS]))
        ]
        hashes += found
        rows += [row] * len(found)
    return _weighted(np.array(hashes, np.uint64), np.array(rows, np.int64), len(texts))


def _words(text: str) -> Iterator[str]:
    words = _WORD.findall(text)
    yield from words
    yield from (f"{one} {other}" for one, other in pairwise(words))


def _characters(text: str) -> Iterator[str]:
    yield from text
    yield from (text[at : at + _GRAM] for at in range(len(text) - _GRAM + 1))


def _weighted(hashes: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    terms, which = np.unique(hashes, return_inverse=True)
    cells, times = np.unique(rows * max(1, len(terms)) + which, return_counts=True)
    rows, which = np.divmod(cells, max(1, len(terms)))
    inverse = np.log(count / np.maximum(1, np.bincount(which, minlength=len(terms)))) + 1
    mixed = terms * np.uint64(0x9E3779B97F4A7C15)
    places = ((mixed >> np.uint64(32)) % np.uint64(DIMENSIONS)).astype(np.int64)
    signs = np.where(mixed >> np.uint64(63), 1.0, -1.0)
    weights = (1 + np.log(times)) * inverse[which] * signs[which]
    sums = np.bincount(rows * DIMENSIONS + places[which], weights, count * DIMENSIONS)
    vectors = sums.reshape(count, DIMENSIONS)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-9)).astype(np.float32)
