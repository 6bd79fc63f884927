"""Texts that people read: cut to the room there is, and chances."""

from __future__ import annotations

# A smaller chance is none that a computer's numbers can tell from 0; it is said to be below this.
LEAST_P = 1e-300


def shortened(text: str, most: int) -> str:
    """At most `most` characters; an ellipsis stands for what is cut off."""
    return text if len(text) <= most else text[: most - 1] + "…"


def p_said(p: float, digits: int = 2) -> str:
    """`p = 0.012`; `p < 1e-300` where a test's figure comes out as nothing: a chance is never 0."""
    return f"p < {LEAST_P:g}" if p <= LEAST_P else f"p = {p:.{digits}g}"
