"""A further column (of `source.metadata`, the time, a second text) that tells the class by itself.

The model does not read metadata. A column that is the class under another name is harmless there; one that
stands for where or when rows were collected says that classes were collected apart, which texts and images
then show too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np

from retrainer.data.probes._rows import CONTENT, Sample, Shortcut, binned, codes_of, judged
from retrainer.data.times import instant

# A column that tells only some of the classes is a coarser kind of them, as a department is.
_LEAST_GAIN = 0.8
# A column with more values than this share of the rows names rows, not kinds of rows.
_MOST_VALUES = 0.2
# ISO times up to here are the day.
_DAY = 10


def probe(rows: Sample) -> Iterator[Shortcut]:
    for name, values in _columns(rows):
        for feature in _features(values, rows.fit):
            found = judged(rows, f"the column '{name}' alone", feature, CONTENT)
            if found and found.gain >= _LEAST_GAIN:
                yield found
                break


def _columns(rows: Sample) -> Iterator[tuple[str, list[str | None]]]:
    table = rows.table
    if "metadata" in table.column_names:
        kept = [json.loads(text or "{}") for text in table["metadata"].to_pylist()]
        for name in sorted({key for row in kept for key in row}):
            yield name, [row.get(name) for row in kept]
    if "time" in table.column_names:
        yield "time", [(text or "")[:_DAY] for text in table["time"].to_pylist()]
    if "text_pair" in rows.columns.inputs:
        yield "text_pair", table["text_pair"].to_pylist()


def _features(values: Sequence[str | None], fit: np.ndarray) -> Iterator[np.ndarray]:
    """The values as they are where they repeat, and in bins where they are numbers or times."""
    codes = codes_of(values)
    if len(np.unique(codes)) <= _MOST_VALUES * len(codes):
        yield codes
    numbers = [_number(value) for value in values]
    if all(number is not None for number in numbers):
        yield binned(np.array(numbers, np.float64), fit)


def _number(value: str | None) -> float | None:
    at = instant(value) if value and "-" in value else None
    if at is not None:
        return float(at)
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if np.isfinite(number) else None
