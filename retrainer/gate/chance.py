"""A p-value in words. Imports nothing heavy."""

from __future__ import annotations

# A smaller chance is none that a computer's numbers can tell from 0; it is said to be below this.
LEAST_P = 1e-300


def p_said(p: float, digits: int = 2) -> str:
    """`p = 0.012`; `p < 1e-300` where a test's figure comes out as nothing: a chance is never 0."""
    return f"p < {LEAST_P:g}" if p <= LEAST_P else f"p = {p:.{digits}g}"


def p_value(p: float, digits: int = 2) -> str:
    """For a column of p-values: `0.012`, or `<1e-9`, below which nobody compares them."""
    return "<1e-9" if p < 1e-9 else f"{p:.{digits}g}"
