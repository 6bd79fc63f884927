"""Histograms as inline SVG: how many things are how long or how large."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrainer.pages.charts import svg
from retrainer.pages.page import escape

_BINS = 24
# Values beyond this share of them are gathered in the last bar: one long text must not squeeze all others.
_SHOWN = 0.99
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 370, 190, 44, 12, 12, 28


@dataclass(frozen=True)
class Bins:
    """`edges` [B + 1] and `counts` [B]; with `open_ended` the last bin holds all that is larger too."""

    edges: list[int]
    counts: list[int]
    open_ended: bool


def binned(values: Sequence[int] | np.ndarray) -> Bins:
    """Whole numbers in bins of one round width, at most _BINS or one more."""
    ordered = np.sort(np.asarray(values, np.int64))
    low, high = int(ordered[0]), int(ordered[-1])
    last = int(ordered[min(len(ordered) - 1, math.ceil(_SHOWN * len(ordered)))])
    width = _round_width((last - low + 1) / _BINS)
    start = low // width * width
    count = (last - start) // width + 1
    places = np.minimum((ordered - start) // width, count - 1)
    edges = [start + width * n for n in range(count + 1)]
    return Bins(edges, np.bincount(places, minlength=count).tolist(), high >= edges[-1])


def _round_width(least: float) -> int:
    if least <= 1:
        return 1
    scale = 10 ** math.floor(math.log10(least))
    return next(math.ceil(scale * factor) for factor in (1, 2, 5, 10) if scale * factor >= least)


def histogram(values: Sequence[int] | np.ndarray, unit: str, label: str) -> str:
    """A bar per bin; each tells its numbers where the pointer rests."""
    bins = binned(values)
    most, step = max(bins.counts), (_WIDTH - _LEFT - _RIGHT) / len(bins.counts)
    base, tall = _HEIGHT - _BOTTOM, _HEIGHT - _BOTTOM - _TOP
    parts = [svg(_WIDTH, _HEIGHT, label)]
    for number, count in enumerate(bins.counts):
        low, high = bins.edges[number], bins.edges[number + 1] - 1
        last = number == len(bins.counts) - 1 and bins.open_ended
        span = f"{low} or more" if last else str(low) if low == high else f"{low} to {high}"
        height = tall * count / most
        box = f'x="{_LEFT + number * step:.1f}" y="{base - height:.1f}" width="{max(1, step - 1):.1f}"'
        parts.append(f'<rect class="right" {box} height="{height:.1f}">')
        parts.append(f"<title>{escape(f'{span} {unit}: {count:,}')}</title></rect>")
    parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>')
    end = f"{bins.edges[-2]:,}+" if bins.open_ended else f"{bins.edges[-1] - 1:,}"
    for x, anchor, text in ((_LEFT, "start", f"{bins.edges[0]:,}"), (_WIDTH - _RIGHT, "end", end)):
        parts.append(f'<text class="tick" text-anchor="{anchor}" x="{x}" y="{_HEIGHT - 8}">{text}</text>')
    parts.append(f'<text class="tick" text-anchor="end" x="{_LEFT - 6}" y="{_TOP + 8}">{most:,}</text>')
    return "".join([*parts, "</svg>"])
