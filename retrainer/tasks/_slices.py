"""Slices by what a row's input is like, for the tasks that read such an input.

Their bounds are fixed and stand in the values' names, so that a floor means the same thing every month.
Legend: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

# Characters of a text (of a pair together), and grey levels of 0 to 255: below the first, below the second.
_LENGTHS = (50, 200)
_GREYS = (85, 170)
# Of the copy that grey levels are read from.
_SIDE_PIXELS = 32


def text_length(test: pa.Table) -> list[str]:
    """Of each row [N]: how long its text is, with that of a pair's other one."""
    texts = test["text"].to_pylist()
    pairs = test["text_pair"].to_pylist() if "text_pair" in test.column_names else [None] * len(texts)
    counts = [len(text or "") + len(pair or "") for text, pair in zip(texts, pairs, strict=True)]
    return _parts(counts, _LENGTHS, ("short", "medium", "long"), "characters")


def brightness(test: pa.Table) -> list[str]:
    """Of each row [N]: by the mean grey level of the square in the middle of its image, upright."""
    from retrainer.tasks._classes import row_name
    from retrainer.tasks._decode_image import decode_image

    greys = []
    for row, image in enumerate(test["image"].to_pylist()):
        size = (_SIDE_PIXELS, _SIDE_PIXELS)
        pixels = decode_image(image and image["bytes"], size, 1, row_name(test, row))
        greys.append(float(pixels.mean()))
    return _parts(greys, _GREYS, ("dark", "medium", "bright"), "grey")


def _parts(
    numbers: Sequence[float], bounds: tuple[int, int], names: tuple[str, str, str], unit: str
) -> list[str]:
    low, high = bounds
    said = (f"below {low}", f"{low}–{high}", f"from {high}")
    titles = [f"{name} ({where} {unit})" for name, where in zip(names, said, strict=True)]
    return [titles[(number >= low) + (number >= high)] for number in numbers]
