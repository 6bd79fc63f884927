"""Cheap features for the linear baseline: TF-IDF of words, and small pixels.

Legend: N rows, F features.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

# The largest side of an image, in pixels: grey, and in colour, where more only lets the regression overfit.
_SIDES = {1: 32, 3: 16}
# The furthest a standardised pixel may lie from its mean, and the rows that C = 1 would suit.
_FURTHEST = 3.0
_SOFT_ROWS = 40
_SOFTEST = 0.1
_MOST_FEATURES = 50_000
_MOST_COEFFICIENTS = 5_000_000
_PAIR = " _pair_ "
# Fewer words than one in so many characters: a language that is written without spaces.
_CHARACTERS_A_WORD = 15


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
    vectors = TfidfVectorizer(
        analyzer="word" if spaced else "char",
        ngram_range=(1, 2) if spaced else (1, 3),
        token_pattern=r"(?u)\b\w+\b",
        sublinear_tf=True,
        max_features=min(_MOST_FEATURES, _MOST_COEFFICIENTS // classes),
    )
    try:
        fitted = vectors.fit_transform(before)
    except ValueError:
        # Not one word in all texts (only signs, or nothing): every text looks alike to this baseline.
        vectors.set_params(analyzer="char", ngram_range=(1, 1))
        before, after = [f"{text} " for text in before], [f"{text} " for text in after]
        fitted = vectors.fit_transform(before)
    title = "TF-IDF + logistic regression"
    return Features("tfidf_linear", title, fitted, vectors.transform(after), softness=10.0)


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
    title = f"logistic regression on {height}×{width} pixels"
    return Features("pixels_linear", title, fitted, asked, softness=min(_SOFTEST, _SOFT_ROWS / len(fitted)))


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
    from retrainer.tasks._answers import row_name
    from retrainer.tasks._decode import decode_images

    encoded = [image["bytes"] for image in table["image"].to_pylist()]
    names = [row_name(table, row) for row in range(len(table))]
    return decode_images(encoded, size, channels, names).reshape(len(table), -1).astype(np.float32) / 255
