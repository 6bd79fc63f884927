"""The label itself written into the text, as `[card_arrival] where is my card`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from retrainer.data.probes._rows import LEAST_PRECISION, Sample, Shortcut
from retrainer.data.splits import normalised

_NO_WORD = re.compile(r"[\W_]+")
_MOST_ROWS = 4096
_CHARACTERS = 2000  # of each text
# Names of classes stand in many a text by right; a leak writes them into most texts of all classes.
_LEAST_SHARE, _CERTAIN_SHARE = 0.5, 0.9


def probe(rows: Sample) -> Iterator[Shortcut]:
    texts = rows.columns.inputs_of("string")
    if not texts:
        return
    rows = rows.first(_MOST_ROWS)
    parts = zip(*(rows.table[name].to_pylist() for name in texts), strict=True)
    written = [_plain("\n".join((part or "")[:_CHARACTERS] for part in row)) for row in parts]
    answers = _named_in(written, [_plain(name) for name in rows.names])
    said = answers >= 0
    right = answers == rows.codes
    had = np.bincount(rows.codes, minlength=len(rows.names))
    if not said.any() or right[said].mean() < LEAST_PRECISION or right.mean() < _LEAST_SHARE:
        return
    if right.mean() <= had.max() / len(right):
        return  # the commonest class named everywhere tells nothing
    hits = np.bincount(rows.codes[right], minlength=len(rows.names))
    classes = tuple(name for name, n, of in zip(rows.names, hits, had, strict=True) if of and n >= of / 2)
    found = Shortcut(
        "the label's own name in the text", classes, right.mean(), had.max() / len(right), len(right)
    )
    yield replace(found, certain=bool(right.mean() >= _CERTAIN_SHARE))


def _plain(text: str) -> str:
    """Words alone, with spaces around; other signs where there is no word."""
    folded = normalised(text)
    words = _NO_WORD.sub(" ", folded).strip()
    return f" {words} " if words else folded


def _named_in(texts: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """int64 [N]: the longest name that stands in each text, -1 where none does."""
    longest_first = sorted(range(len(names)), key=lambda code: (-len(names[code]), code))
    return np.array([next((c for c in longest_first if names[c] in text), -1) for text in texts], np.int64)
