"""What several mistakes do to rows, pictures and recordings."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.trust.careless.rows import TESTED_SPEAKER, Draw, Month, Row


def some(rows: Sequence[Row], share: float, draw: Draw) -> list[int]:
    return sorted(int(row) for row in draw.permutation(len(rows))[: round(share * len(rows))])


def changed(rows: Sequence[Row], places: Sequence[int], change: Callable[[Row], Row]) -> tuple[Row, ...]:
    chosen = set(places)
    return tuple(change(row) if n in chosen else row for n, row in enumerate(rows))


def both(month: Month, change: Callable[[Row], Row]) -> Month:
    return replace(month, train=tuple(map(change, month.train)), test=tuple(map(change, month.test)))


def labelled(rows: Sequence[Row], labels: Sequence[str]) -> tuple[Row, ...]:
    """Names of recordings stay different where labels move."""
    return tuple(
        replace(row, label=label, name=row.name if row.label == label else renamed(row, n))
        for n, (row, label) in enumerate(zip(rows, labels, strict=True))
    )


def renamed(row: Row, number: int) -> str:
    """Another file name, which stays a number where names are numbers."""
    return f"{row.name}{9000 + number}"


def classes(month: Month) -> list[str]:
    return sorted({row.label for row in month.train})


def as_training(rows: Sequence[Row]) -> list[Row]:
    """Test rows under names of training rows; recordings as if another speaker had spoken them."""
    return [
        replace(row, name=renamed(row, n), group="george" if row.group == TESTED_SPEAKER else row.group)
        for n, row in enumerate(rows)
    ]


def pixels(row: Row) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(row.content)).convert("RGB"))


def stored(row: Row, pixels: np.ndarray, kind: str = "JPEG") -> Row:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return replace(row, content=stream.getvalue())


def heard(change: Callable[[np.ndarray, int], tuple[np.ndarray, int]]) -> Callable[[Row], Row]:
    def changed(row: Row) -> Row:
        from retrainer.formats.audio import decode_audio, encode_wav

        return replace(row, content=encode_wav(*change(*decode_audio(row.content, row.name))))

    return changed
