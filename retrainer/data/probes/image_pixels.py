"""Pixels that are not what an image shows and still tell its class: its border, a corner, one channel.

Legend: N images, S their side, R pixels of the border.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from retrainer.data.images import of_each_image
from retrainer.data.probes._rows import CONTENT, Sample, Shortcut, binned, judged
from retrainer.data.probes.image_files import MOST_ROWS
from retrainer.data.similar.images import small_pixels

_SIDE, _RING, _CORNER = 32, 2, 4
_LEVELS = 8
# Pixels of the border that are looked at one by one lie so far apart.
_STEP = 2
_STATISTICS = ("mean", "max", "min", "std")


def probe(rows: Sample) -> Iterator[Shortcut]:
    rows = rows.first(MOST_ROWS)
    for name in rows.columns.inputs_of("image"):
        pixels = np.stack(of_each_image(rows.table[name], _small, _grey()))
        found = [*_channels(rows, pixels), *_regions(rows, pixels)]
        yield from found or _best(_single_pixels(rows, pixels))


def _small(encoded: object) -> np.ndarray:
    found = small_pixels(encoded)  # type: ignore[arg-type]
    return _grey() if found is None else found


def _grey() -> np.ndarray:
    return np.full((_SIDE, _SIDE, 3), 128, np.uint8)


def _channels(rows: Sample, pixels: np.ndarray) -> Iterator[Shortcut]:
    flat = pixels.reshape(len(pixels), -1, 3).astype(np.float32)
    for place, channel in enumerate(("red", "green", "blue")):
        for statistic in _STATISTICS:
            values = getattr(flat[..., place], statistic)(axis=1)
            what = f"the {channel} channel's {statistic}"
            if found := judged(rows, what, binned(values, rows.fit), CONTENT):
                yield found
                break
    coloured = np.ptp(flat, axis=2).max(axis=1) > 0
    if found := judged(rows, "whether the image is grey", coloured.astype(np.int64), CONTENT):
        yield found


def _regions(rows: Sample, pixels: np.ndarray) -> Iterator[Shortcut]:
    """Mean colours of the four sides and corners, each in 512 steps."""
    regions = {
        "the upper border": pixels[:, :_RING],
        "the lower border": pixels[:, -_RING:],
        "the left border": pixels[:, :, :_RING],
        "the right border": pixels[:, :, -_RING:],
        "the upper left corner": pixels[:, :_CORNER, :_CORNER],
        "the upper right corner": pixels[:, :_CORNER, -_CORNER:],
        "the lower left corner": pixels[:, -_CORNER:, :_CORNER],
        "the lower right corner": pixels[:, -_CORNER:, -_CORNER:],
    }
    for what, part in regions.items():
        steps = (part.mean(axis=(1, 2)) * _LEVELS / 256).astype(np.int64)
        values = (steps[:, 0] * _LEVELS + steps[:, 1]) * _LEVELS + steps[:, 2]
        if found := judged(rows, f"{what} of the image", values, CONTENT):
            yield found


def _single_pixels(rows: Sample, pixels: np.ndarray) -> Iterator[Shortcut]:
    """A mark too small for a region's mean."""
    places = [(y, x) for y in range(0, _SIDE, _STEP) for x in range(0, _SIDE, _STEP) if _on_border(y, x)]
    for y, x in places:
        values = pixels[:, y, x].sum(axis=1).astype(np.int64) // 48
        if found := judged(rows, f"a pixel of the border (row {y}, column {x} of 32)", values, CONTENT):
            yield found


def _on_border(y: int, x: int) -> bool:
    return min(y, x, _SIDE - 1 - y, _SIDE - 1 - x) < _CORNER


def _best(found: Iterator[Shortcut]) -> list[Shortcut]:
    return sorted(found, key=lambda one: -one.accuracy)[:1]
