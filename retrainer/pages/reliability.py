"""The reliability diagram: how often answers of some confidence are right. On the diagonal they are honest.

Source: DeGroot and Fienberg, The Statistician 32 (1983), 12–22.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from retrainer.pages.charts import svg
from retrainer.pages.page import escape

_SIDE, _LEFT, _BOTTOM, _TOP, _RIGHT = 300, 44, 40, 12, 12
_TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)

# Rows, mean confidence, share that is right.
Bin = tuple[int, float, float]


def reliability_chart(bins: Sequence[Bin], label: str) -> str:
    """A dot a bin, larger where it has more rows, and a line from it to the diagonal."""
    width, height = _LEFT + _SIDE + _RIGHT, _TOP + _SIDE + _BOTTOM
    most = max(rows for rows, _, _ in bins)
    parts = [
        svg(width, height, label),
        *(_tick(share) for share in _TICKS),
        _line("kept", 0, 0, 1, 1),
        f'<text class="tick" text-anchor="middle" x="{_x(0.5):.0f}" y="{height - 4}">how sure it is</text>',
        f'<text class="tick" transform="translate(11 {_y(0.5):.0f}) rotate(-90)" text-anchor="middle">'
        "how often it is right</text>",
    ]
    parts += [_line("line s1", confidence, confidence, confidence, right) for _, confidence, right in bins]
    path = " ".join(f"{_x(confidence):.1f},{_y(right):.1f}" for _, confidence, right in bins)
    parts.append(f'<polyline class="line s0" points="{path}"/>')
    for rows, confidence, right in bins:
        tooltip = f"{rows:,} answers: confidence {confidence:.3f}, right {right:.3f}"
        radius = 3 + 5 * math.sqrt(rows / most)
        parts.append(
            f'<circle class="own" cx="{_x(confidence):.1f}" cy="{_y(right):.1f}" r="{radius:.1f}">'
            f"<title>{escape(tooltip)}</title></circle>"
        )
    return "".join([*parts, "</svg>"])


def _x(share: float) -> float:
    return _LEFT + share * _SIDE


def _y(share: float) -> float:
    return _TOP + (1 - share) * _SIDE


def _tick(share: float) -> str:
    x, y = _x(share), _y(share)
    return (
        f"{_line('grid', share, 0, share, 1)}{_line('grid', 0, share, 1, share)}"
        f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{_TOP + _SIDE + 17}">{share:g}</text>'
        f'<text class="tick" text-anchor="end" x="{_LEFT - 8}" y="{y + 4:.1f}">{share:g}</text>'
    )


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    ends = f'x1="{_x(x1):.1f}" y1="{_y(y1):.1f}" x2="{_x(x2):.1f}" y2="{_y(y2):.1f}"'
    return f'<line class="{kind}" {ends}/>'
