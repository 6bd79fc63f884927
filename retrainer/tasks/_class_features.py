"""Cheap features for the linear baseline: TF-IDF of words, small pixels, mean spectra of sounds.

Legend: N rows, F features.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

# The largest side of an image, in pixels: grey, and in colour, where more only lets the regression overfit.
_SIDES = {1: 32, 3: 16}
# The furthest a standardised pixel may lie from its mean.
_FURTHEST = 3.0
# C is this many over the number of rows, and no more than _SOFTEST.
_SOFT_ROWS = 40
_SOFTEST = 0.1
_MOST_FEATURES = 50_000
_MOST_COEFFICIENTS = 5_000_000
_PAIR = " _pair_ "
_WORD = re.compile(r"\w")
_WORDS = {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"}
_CHARACTERS = {"analyzer": "char", "ngram_range": (1, 3), "token_pattern": None}
# Fewer words than one in so many characters: a language that is written without spaces.
_CHARACTERS_A_WORD = 12


@dataclass(frozen=True)
class Features:
    """`train` and `test` are [N, F] matrices, sparse or dense. `softness` is the regression's C."""

    name: str
    title: str
    train: Any
    test: Any
    softness: float
    note: str = ""


def text_features(train: pa.Table, test: pa.Table, classes: int) -> Features:
    """TF-IDF of words and word pairs; of 1–3 characters where words are not set apart by spaces.

    C = 10: TF-IDF rows have length 1, and the default of 1 costs Banking77 four points.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    before, after = _texts(train), _texts(test)
    spaced = sum(len(text.split()) for text in before) * _CHARACTERS_A_WORD >= sum(map(len, before))
    units = _WORDS if spaced and any(map(_WORD.search, before)) else _CHARACTERS
    most = min(_MOST_FEATURES, _MOST_COEFFICIENTS // classes)
    vectors = TfidfVectorizer(**units, sublinear_tf=True, max_features=most)
    # The space at the end lets a text without a character have a feature.
    fitted = vectors.fit_transform([f"{text} " for text in before])
    asked = vectors.transform([f"{text} " for text in after])
    note = "" if units is _WORDS else "of characters"
    return Features("tfidf_linear", "TF-IDF + logistic regression", fitted, asked, softness=10.0, note=note)


def _texts(table: pa.Table) -> list[str]:
    texts = [text or "" for text in table["text"].to_pylist()]
    if "text_pair" not in table.column_names:
        return texts
    pairs = table["text_pair"].to_pylist()
    return [text + _PAIR + (pair or "") for text, pair in zip(texts, pairs, strict=True)]


def pixel_features(train: pa.Table, test: pa.Table, classes: int) -> Features:  # noqa: ARG001
    """Pixels of images scaled to at most 32×32 (in colour 16×16), standardised by the training rows.

    Standardised values are cut at ±3: a pixel lit in one image of thousands would outweigh all others.
    C falls with the number of rows, so that the penalty keeps its weight beside the mean loss.
    """
    encoded = [image["bytes"] for image in train["image"].to_pylist()]
    size, channels = _shape(encoded)
    before, after = _pixels(train, size, channels), _pixels(test, size, channels)
    mean, std = before.mean(axis=0), before.std(axis=0)
    scale = np.where(std > 0, std, 1.0)
    fitted, asked = (((one - mean) / scale).clip(-_FURTHEST, _FURTHEST) for one in (before, after))
    height, width = size
    softness = min(_SOFTEST, _SOFT_ROWS / len(fitted))
    title, note = "pixels + logistic regression", f"{height}×{width} pixels"
    return Features("pixels_linear", title, fitted, asked, softness, note)


def sound_features(train: pa.Table, test: pa.Table, classes: int) -> Features:  # noqa: ARG001
    """Mean log-mel spectra of eight stretches of each sound, standardised by the training rows."""
    from retrainer.tasks._sound_baselines import mean_spectra

    before, after = mean_spectra(train), mean_spectra(test)
    mean, scale = before.mean(axis=0), before.std(axis=0) + 1e-6
    softness = min(_SOFTEST, _SOFT_ROWS / len(before))
    fitted, asked = (((one - mean) / scale).clip(-_FURTHEST, _FURTHEST) for one in (before, after))
    return Features("log_mel_linear", "log-mel spectra + logistic regression", fitted, asked, softness)


def _shape(encoded: list[bytes]) -> tuple[tuple[int, int], int]:
    """(height, width), and 1 or 3 channels, for all images: their own where they share a small one."""
    from PIL import Image

    sizes, modes = set(), set()
    for data in encoded:
        with Image.open(io.BytesIO(data)) as image:
            sizes.add(image.size)
            modes.add(image.mode)
    channels = 1 if all(mode in ("1", "L", "I", "I;16") for mode in modes) else 3
    width, height = next(iter(sizes))
    side = _SIDES[channels]
    small = len(sizes) == 1 and max(width, height) <= side
    return ((height, width) if small else (side, side)), channels


def _pixels(table: pa.Table, size: tuple[int, int], channels: int) -> np.ndarray:
    """float32 [N, channels * height * width], 0 to 1."""
    from retrainer.tasks._classes import row_name
    from retrainer.tasks._decode import decode_images

    encoded = [image["bytes"] for image in table["image"].to_pylist()]
    names = [row_name(table, row) for row in range(len(table))]
    return decode_images(encoded, size, channels, names).reshape(len(table), -1).astype(np.float32) / 255
