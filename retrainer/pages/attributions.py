"""Attributions drawn: words painted in their text, squares over an image, bars along a sound.

What speaks for `towards` is blue and what speaks against it orange, a pair that colour-blind readers tell
apart; words against it are underlined too, and bars of a sound point down.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from retrainer.pages.page import escape
from retrainer.texts import shortened

# Shades of a colour; a value below half of the first step is not painted.
SHADES = 4
_FOR, _AGAINST = (42, 91, 215), (208, 92, 20)
_SMALL_PIXELS, _LARGE_PIXELS = 64, 144
_WIDTH, _HEIGHT = 240, 40


def painted(text: str, words: Sequence[Sequence[Any]], largest: float, most: int) -> str:
    """The text's first `most` characters as HTML. `words`: [start, end, value], by rising start; `largest`:
    the size of the row's largest value, which has the darkest shade."""
    shown, parts, at = shortened(text, most), [], 0
    room = len(shown) - (len(shown) < len(text))
    for start, end, value in words:
        if start < at or end > room:
            continue
        parts.append(escape(shown[at:start]))
        parts.append(_marked(shown[start:end], value, largest))
        at = end
    return "".join([*parts, escape(shown[at:])])


def _marked(word: str, value: float, largest: float) -> str:
    shade = round(SHADES * abs(value) / largest) if largest else 0
    if not shade:
        return escape(word)
    side = "for" if value > 0 else "not"
    return f'<mark class="{side}{shade}" title="{value:+.3g}">{escape(word)}</mark>'


def overlay(encoded: bytes, name: str, size: tuple[int, int], grid: dict[str, Any]) -> tuple[str, bool]:
    """The image as the model sees it, in grey below the coloured squares: a data URI, and whether its pixels
    are to be enlarged. `size`: (height, width) of the model's input; `grid`: "rows" and "columns" are the
    squares' bounds in such pixels, "values" theirs, row by row."""
    from PIL import Image

    from retrainer.tasks._decode_image import decode_image

    scale = 1.0 if max(size) <= _SMALL_PIXELS else _LARGE_PIXELS / max(size)
    height, width = (max(1, round(side * scale)) for side in size)
    grey: np.ndarray = decode_image(encoded, (height, width), 1, name)[0].astype(np.float32)
    values = _spread(grid, (height, width), scale)
    strength = (np.abs(values) / (np.abs(values).max() or 1.0))[..., None]
    colour = np.where(values[..., None] > 0, np.float32(_FOR), np.float32(_AGAINST))
    # Between the two greys that both colours stand out from.
    base = (90 + grey[..., None] * (165 / 255)).repeat(3, axis=2)
    mixed = base + (colour - base) * (0.85 * strength)
    picture, small, buffer = Image.fromarray(mixed.round().astype(np.uint8)), scale == 1.0, io.BytesIO()
    picture.save(buffer, "PNG", optimize=True) if small else picture.save(buffer, "JPEG", quality=80)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", small


def _spread(grid: dict[str, Any], size: tuple[int, int], scale: float) -> np.ndarray:
    """Each square's value at each of its pixels [H, W]."""
    values: np.ndarray = np.zeros(size, np.float32)
    left = iter(grid["values"])
    for top, bottom in pairwise(grid["rows"]):
        for start, end in pairwise(grid["columns"]):
            rows, columns = (
                slice(round(a * scale), round(b * scale)) for a, b in ((top, bottom), (start, end))
            )
            values[rows, columns] = next(left)
    return values


def bars(stretches: Sequence[Sequence[float]]) -> str:
    """An SVG with a bar for each [start, end, value] of a sound, up for `towards` and down against it."""
    whole = max((end for _, end, _ in stretches), default=0.0) or 1.0
    largest = max((abs(value) for *_, value in stretches), default=0.0) or 1.0
    middle, shapes = _HEIGHT / 2, []
    for start, end, value in stretches:
        height = middle * abs(value) / largest
        x, width = _WIDTH * start / whole, max(0.5, _WIDTH * (end - start) / whole - 0.5)
        y, side = (middle - height, "for") if value > 0 else (middle, "not")
        title = f"{start:.2f} to {end:.2f} s: {value:+.3g}"
        shapes.append(
            f'<rect class="{side}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}">'
            f"<title>{title}</title></rect>"
        )
    line = f'<line class="grid" x1="0" x2="{_WIDTH}" y1="{middle}" y2="{middle}"/>'
    label = f"attributions along {whole:.2f} seconds"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{line}{"".join(shapes)}</svg>'
    )


def legend(blue: str, orange: str) -> str:
    """What the colours say, in words."""
    return (
        f'<p class="quiet"><mark class="for3">Blue</mark> {escape(blue)}, <mark class="not3">orange</mark>'
        f" {escape(orange)}; the stronger the colour, the more.</p>"
    )
