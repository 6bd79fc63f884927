"""Pixels that are not what an image shows and still tell its class: its border, a corner, one channel.

Legend: N images, S their side.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from retrainer.data.out_of_sample import LeaveOneOut
from retrainer.data.probes._rows import CONTENT, Sample, Shortcut, binned, judged, of_answers
from retrainer.data.probes.image_files import MOST_ROWS
from retrainer.data.vectors.images import small_images

_SIDE, _RING, _CORNER = 32, 2, 4
_LEVELS = 8
# The outer pixels, bool [S, S].
_OUTER: np.ndarray = np.pad(np.zeros((_SIDE - 2 * _RING,) * 2, bool), _RING, constant_values=True)
# A border of one colour varies by less than this.
_PLAIN = 4.0
# Of the linear model of a corner's brightness: small, as a mark is little beside what makes corners differ.
_PENALTY = 1e-2
_ENDS = {"upper": slice(0, 8), "lower": slice(-8, None)}
_SIDES = {"left": slice(0, 8), "right": slice(-8, None)}
_CORNERS = {
    f"a linear rule on the {end} {side} corner of the image": (high, wide)
    for end, high in _ENDS.items()
    for side, wide in _SIDES.items()
}
_STATISTICS = ("mean", "max", "min", "std")


def probe(rows: Sample) -> Iterator[Shortcut]:
    rows = rows.first(MOST_ROWS)
    for name in rows.columns.inputs_of("image"):
        pixels = small_images(rows.table[name])
        found = [*_channels(rows, pixels), *_regions(rows, pixels)]
        yield from found or _border(rows, pixels)


def _channels(rows: Sample, pixels: np.ndarray) -> Iterator[Shortcut]:
    flat: np.ndarray = pixels.reshape(len(pixels), -1, 3).astype(np.float32)
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


def _border(rows: Sample, pixels: np.ndarray) -> Iterator[Shortcut]:
    """A border of one colour, and a mark that a linear model finds in a corner."""
    outer = pixels[:, _OUTER]
    plain = outer.astype(np.float32).std(axis=1).max(axis=1) < _PLAIN
    colours = np.where(plain, 1 + outer.mean(axis=(1, 2)) * _LEVELS / 256, 0).astype(np.int64)
    if found := judged(rows, "a border of one colour", colours, CONTENT):
        yield found
        return
    truth, commonest = rows.codes[~rows.fit], int(np.bincount(rows.codes).argmax())
    grey = pixels.mean(axis=3, dtype=np.float32) / 255
    for what, (high, wide) in _CORNERS.items():
        vectors = grey[:, high, wide].reshape(len(grey), -1)
        answers = LeaveOneOut(vectors, _PENALTY).scores(rows.codes, len(rows.names)).argmax(axis=1)
        if found := of_answers(rows, what, answers[~rows.fit], truth, commonest, CONTENT):
            yield found
