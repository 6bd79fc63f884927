"""Texts as numbers: how long and of what characters they are, and hashed words in few dimensions.

Legend: N texts, S measures, D dimensions.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from retrainer.data.splits import normalised

NAMES = ("characters", "words", "letters a word", "share of capitals", "share of digits", "share of signs")
DIMENSIONS = 64
# Of a longer text the beginning is embedded; its length is measured whole.
_CHARACTERS = 2000
# Parts of words, for languages that put no space between them.
_GRAM = 3
_WORD = re.compile(r"\w+")


def measure(column: pa.ChunkedArray) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """NAMES, float [N, S] and float [N, D] of a column of texts; counts are logarithms."""
    given = [text or "" for text in column.to_pylist()]
    measures = np.array([_measures(text) for text in given], np.float64).reshape(-1, len(NAMES))
    return NAMES, measures, embed(given)


def _measures(text: str) -> tuple[float, ...]:
    words, letters = _WORD.findall(text), sum(character.isalnum() for character in text)
    size = max(1, len(text))
    return (
        float(np.log2(1 + len(text))),
        float(np.log2(1 + len(words))),
        letters / max(1, len(words)),
        sum(character.isupper() for character in text) / size,
        sum(character.isdigit() for character in text) / size,
        sum(not (character.isalnum() or character.isspace()) for character in text) / size,
    )


def embed(given: list[str]) -> np.ndarray:
    """float32 [N, D]: words and their trigrams, each added or subtracted in the dimension of its hash.

    Signed feature hashing keeps inner products in expectation (Weinberger et al., 2009); rows have length 1.
    """
    hashes, rows = [], []
    for row, text in enumerate(given):
        found = [zlib.crc32(part.encode("utf-8", "surrogatepass")) for part in _parts(text)]
        hashes += found
        rows += [row] * len(found)
    mixed = np.array(hashes, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    places = (mixed >> np.uint64(32)) % np.uint64(DIMENSIONS)
    signs = np.where(mixed >> np.uint64(63), 1.0, -1.0)
    flat = np.array(rows, np.int64) * DIMENSIONS + places.astype(np.int64)
    sums = np.bincount(flat, signs, len(given) * DIMENSIONS).reshape(-1, DIMENSIONS)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return (sums / np.maximum(lengths, 1e-9)).astype(np.float32)


def _parts(text: str) -> Iterator[str]:
    for word in _WORD.findall(normalised(text[:_CHARACTERS])):
        yield word
        padded = f"^{word}$"
        yield from (f"~{padded[at : at + _GRAM]}" for at in range(len(padded) - _GRAM + 1))
