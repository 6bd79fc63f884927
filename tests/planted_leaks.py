"""Small datasets with a leak or without one, as rows of a raw dataset: what the tests of shortcuts share."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tests.raw_rows import Row

CLASSES = ("refund", "delivery", "account")
_WORDS = {
    "refund": ["money", "back", "returned", "refund", "amount", "paid", "wrong", "charge", "order", "cancel"],
    "delivery": [
        "parcel",
        "late",
        "courier",
        "address",
        "tracking",
        "shipped",
        "arrive",
        "door",
        "box",
        "order",
    ],
    "account": [
        "login",
        "password",
        "email",
        "profile",
        "change",
        "delete",
        "settings",
        "name",
        "locked",
        "order",
    ],
}
_COMMON = [
    "please",
    "the",
    "my",
    "is",
    "and",
    "can",
    "you",
    "help",
    "with",
    "a",
    "I",
    "have",
    "not",
    "yet",
    "today",
    "where",
    "how",
    "why",
]


def letters(count: int = 450, seed: int = 0, **more: Any) -> list[Row]:
    """Texts of twelve words, three of them of the class: it can be told, and nothing leaks."""
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        label = CLASSES[int(draw.integers(3))]
        words = [*draw.choice(_COMMON, 9), *draw.choice(_WORDS[label], 3)]
        text = " ".join(draw.permutation(words).tolist())
        rows.append({"text": text, "labels": [label], "id": str(number), **more})
    return rows


def pictures(
    count: int = 360, seed: int = 0, change: Callable[[np.ndarray, str], Any] | None = None, **options: Any
) -> list[Row]:
    """Images of 32×32 noise with a bright square that lies higher for `top`; `change` may alter the pixels,
    or give the encoded bytes."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        label = ("top", "bottom")[int(draw.integers(2))]
        pixels = draw.integers(0, 160, (32, 32, 3)).astype(np.uint8)
        y, x = int(draw.integers(5, 9) + (10 if label == "bottom" else 0)), int(draw.integers(6, 18))
        pixels[y : y + 7, x : x + 7] = draw.integers(150, 255)
        made = change(pixels, label) if change else pixels
        data = made if isinstance(made, bytes) else encoded(made, **options)
        rows.append({"image": {"bytes": data, "path": None}, "labels": [label]})
    return rows


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()
