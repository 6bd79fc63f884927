"""The shape of a text that tells its class: the first or last word, the last sign, its case, its length."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from retrainer.data.probes._rows import CONTENT, Sample, Shortcut, binned, codes_of, judged

_SHAPES: dict[str, Callable[[str], str]] = {
    "the first word": lambda text: (text.split() or [""])[0],
    "the last word": lambda text: (text.split() or [""])[-1],
    "the last character": lambda text: text[-1:],
    "upper and lower case": lambda text: (
        "lower" if text.islower() else "upper" if text.isupper() else "mixed"
    ),
    "a capital at the start": lambda text: str(text[:1].isupper()),
}


def probe(rows: Sample) -> Iterator[Shortcut]:
    for name in rows.columns.inputs_of("string"):
        texts = [text or "" for text in rows.table[name].to_pylist()]
        column = name.replace("_", " ")
        features = {what: codes_of([shape(text) for text in texts]) for what, shape in _SHAPES.items()}
        features["the length"] = binned(np.array([len(text) for text in texts]), rows.fit)
        for what, values in features.items():
            if found := judged(rows, f"{what} of the {column}", values, CONTENT):
                yield found
