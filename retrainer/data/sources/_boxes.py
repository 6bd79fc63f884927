"""What the sources of annotated images have in common: rows of an image and the boxes of its objects."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from retrainer.data.sources._columns import FILES_PER_CHUNK, encoded_array
from retrainer.data.sources._folders import Tree
from retrainer.data.sources._splits import given_columns
from retrainer.errors import DataError
from retrainer.formats.names import CORNERS

if TYPE_CHECKING:
    import pyarrow as pa

# No image has as many pixels a side: a larger number is a typing error, or meant to break something.
_LARGEST = 1e6


@dataclass(frozen=True)
class Annotated:
    """An image's file and its boxes, each a dict of `label` and the four corners."""

    image: PurePosixPath
    boxes: list[dict[str, Any]]
    split: str


def box(label: str, corners: Iterable[object], where: str) -> dict[str, Any]:
    """One box (left, top, right, bottom). Raises UserError beginning with `where` for what is no number."""
    values = [number_of_pixels(value, where) for value in corners]
    label = label.strip()
    if not label:
        raise DataError(f"{where} has no class name; write one, or delete the object")
    return {"label": label, **dict(zip(CORNERS, values, strict=True))}


def number_of_pixels(value: object, where: str) -> float:
    """Raises UserError beginning with `where` for what is no number, or a number of no image's pixels."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not abs(number) <= _LARGEST:
        raise DataError(f"{where}: its box has {str(value)[:40]!r}, which is no number of pixels; correct it")
    return number


def tables(tree: Tree, rows: Sequence[Annotated]) -> Iterator[pa.Table]:
    """Tables of `image`, `boxes`, `origin` and what is given of the split, as many images in each as an array
    can hold."""
    import pyarrow as pa

    from retrainer.formats.columns import TYPES

    for start in range(0, len(rows), FILES_PER_CHUNK):
        chunk = rows[start : start + FILES_PER_CHUNK]
        yield pa.table(
            {
                "image": encoded_array([tree.read(row.image) or None for row in chunk]),
                "boxes": pa.array([row.boxes for row in chunk], TYPES["boxes"]),
                "origin": pa.array([tree.title(row.image) for row in chunk], pa.string()),
                **given_columns([row.split for row in chunk]),
            }
        )
