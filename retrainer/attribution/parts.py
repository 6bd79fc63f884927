"""What people can read of an input: words of a text, regions of an image, stretches of a sound.

Legend: B rows, T tokens or frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Encoding

from retrainer.tasks._tokens import row_tokenizer, tokenizer_inputs

# Regions along a side of an image, and stretches of a sound, at most.
_MOST_REGIONS = 14
_MOST_STRETCHES = 48


def _parts(**bounds: pa.DataType) -> pa.DataType:
    return pa.list_(pa.struct({**bounds, "value": pa.float64()}))


_INT, _TEXT = pa.int32(), pa.string()
WORDS = _parts(column=_TEXT, start=_INT, end=_INT, text=_TEXT)
REGIONS = _parts(left=_INT, top=_INT, right=_INT, bottom=_INT)
STRETCHES = _parts(start=pa.float64(), end=pa.float64())

Part = dict[str, Any]


@dataclass(frozen=True)
class Word:
    """`text`, from `start` to `end` of the row's `column`; `tokens`: its own places among the row's."""

    column: str
    start: int
    end: int
    text: str
    tokens: tuple[int, ...]


def words_of(table: pa.Table, preprocessing: dict[str, Any], assets: dict[str, bytes]) -> list[list[Word]]:
    """Of each row the words that the model reads, as its tokenizer parts them; none of what is cut off."""
    tokenizer = row_tokenizer(preprocessing, assets)
    encodings = tokenizer.encode_batch(tokenizer_inputs(table))
    columns = [name for name in ("text", "text_pair") if name in table.column_names]
    texts = [[table[name][row].as_py() or "" for name in columns] for row in range(len(table))]
    return [list(_words(one, columns, row)) for one, row in zip(encodings, texts, strict=True)]


def _words(encoding: Encoding, columns: list[str], texts: list[str]) -> Iterator[Word]:
    found: dict[tuple[int, int], list[int]] = {}
    for place, (text, word) in enumerate(zip(encoding.sequence_ids, encoding.word_ids, strict=True)):
        if text is not None:  # else a token of the model's own
            found.setdefault((text, place if word is None else word), []).append(place)
    for (text, _), places in found.items():
        start = min(encoding.offsets[place][0] for place in places)
        end = max(encoding.offsets[place][1] for place in places)
        inside = texts[text][start:end]
        start += len(inside) - len(inside.lstrip())
        inside = inside.strip()
        yield Word(columns[text], start, start + len(inside), inside, tuple(places))


def word_parts(words: list[Word], values: np.ndarray) -> list[Part]:
    """`values` [T] of a row's tokens, added up by word."""
    return [
        {
            "column": word.column,
            "start": word.start,
            "end": word.end,
            "text": word.text,
            "value": float(values[list(word.tokens)].sum()),
        }
        for word in words
    ]


def region_parts(values: np.ndarray) -> list[Part]:
    """`values` [H, W] of an image's pixels, added up in squares, row by row; bounds in pixels of the image as
    the model sees it."""
    height, width = values.shape
    rows, columns = _edges(height, _MOST_REGIONS), _edges(width, _MOST_REGIONS)
    return [
        {
            "left": left,
            "top": top,
            "right": right,
            "bottom": bottom,
            "value": float(values[top:bottom, left:right].sum()),
        }
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]


def stretch_parts(values: np.ndarray, seconds_each: float) -> list[Part]:
    """`values` [T] of a sound's frames or samples, added up; bounds in seconds."""
    return [
        {"start": start * seconds_each, "end": end * seconds_each, "value": float(values[start:end].sum())}
        for start, end in pairwise(_edges(len(values), _MOST_STRETCHES))
    ]


def _edges(size: int, most: int) -> list[int]:
    """Bounds of at most `most` parts of one size, the last of which may be smaller."""
    step = max(1, -(-size // most))
    return [*range(0, size, step), size]


def seconds_each(preprocessing: dict[str, Any]) -> float:
    """Seconds of sound behind one frame, or one sample, of a batch."""
    rate = float(preprocessing["sampling_rate"])
    return (preprocessing["spectrum"]["hop"] if preprocessing["input"] == "log_mel" else 1) / rate
