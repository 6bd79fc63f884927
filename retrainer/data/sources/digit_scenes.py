"""Synthetic scenes of real digits, for object detection and semantic segmentation: those of the source
`digits`, each once at most, on 1,000 grey images of 96 × 128 pixels, three to five an image, in their own
size or twice as large.

A digit's box holds its ink; in a mask the pixels of its ink are of its class, all others of `background`.
Places, sizes and backgrounds are drawn by NumPy from a fixed seed: the lock's version makes the same bytes
everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from retrainer.data.sources.digits import files, read_digits
from retrainer.settings import Source

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

SCENES, HEIGHT, WIDTH = 1000, 96, 128
CLASSES = ("background", *map(str, range(10)))
_SEED = 20261126
_FEWEST, _MOST = 3, 5
_TRIES = 60
# Grey values of the background, and the least one that is ink.
_DARKEST, _BRIGHTEST = 20, 90
_INK = 64


def read(source: Source) -> Iterator[pa.Table]:
    """One table: image (PNG bytes), boxes, origin and, where the task reads it, mask."""
    import pyarrow as pa

    from retrainer.data.sources._columns import encoded_array
    from retrainer.data.sources._png import grey_png
    from retrainer.formats.columns import TYPES

    path = files(source)[0]
    made = list(_scenes(*read_digits(path)))
    columns = {
        "image": encoded_array([grey_png(pixels) for pixels, _, _ in made]),
        "boxes": pa.array([boxes for _, boxes, _ in made], TYPES["boxes"]),
        "origin": [f"digit scene {number}" for number in range(1, len(made) + 1)],
    }
    if "mask" in source.columns:
        columns["mask"] = pa.array([_mask(values) for _, _, values in made], TYPES["mask"])
    yield pa.table(columns)


def _mask(values: np.ndarray) -> dict[str, Any]:
    import numpy as np

    from retrainer.data.sources._png import grey_png

    there = set(np.unique(values).tolist())
    names = [name if value in there else None for value, name in enumerate(CLASSES)]
    return {"image": {"bytes": grey_png(values), "path": None}, "classes": names[: max(there) + 1]}


def _scenes(
    pixels: np.ndarray, digits: np.ndarray
) -> Iterator[tuple[np.ndarray, list[dict[str, Any]], np.ndarray]]:
    """Grey values [H, W], boxes, and each pixel's place in CLASSES [H, W]; no digit is used twice, so none is
    in two splits."""
    import numpy as np

    draws = np.random.Generator(np.random.PCG64(_SEED))
    order = iter(draws.permutation(len(digits)).tolist())
    for _ in range(SCENES):
        left, right = draws.integers(_DARKEST, _BRIGHTEST, 2)
        scene = np.linspace(left, right, WIDTH)[None] + draws.integers(-8, 9, (HEIGHT, WIDTH))
        taken: np.ndarray = np.zeros((HEIGHT, WIDTH), bool)
        boxes = []
        values: np.ndarray = np.zeros((HEIGHT, WIDTH), np.uint8)
        for _ in range(draws.integers(_FEWEST, _MOST + 1)):
            number = next(order)
            scale = int(draws.integers(1, 3))
            ink = _cut_out(pixels[number].repeat(scale, 0).repeat(scale, 1))
            place = _free_place(taken, ink.shape, draws)
            if place is None:
                continue
            inside = (slice(place[0], place[0] + ink.shape[0]), slice(place[1], place[1] + ink.shape[1]))
            scene[inside] = np.maximum(scene[inside], ink)
            taken[inside] = True
            values[inside][ink >= _INK] = 1 + digits[number]
            boxes.append(_box(str(digits[number]), place, ink.shape))
        yield scene.clip(0, 255).astype(np.uint8), boxes, values


def _cut_out(digit: np.ndarray) -> np.ndarray:
    """The rows and columns that have ink."""
    rows, columns = ((digit >= _INK).any(axis) for axis in (1, 0))
    top, left = rows.argmax(), columns.argmax()
    return digit[top : len(rows) - rows[::-1].argmax(), left : len(columns) - columns[::-1].argmax()]


def _free_place(taken: np.ndarray, shape: tuple[int, ...], draws: Any) -> tuple[int, int] | None:
    """Top and left of a place that nothing stands in; None where none was found."""
    for _ in range(_TRIES):
        top = int(draws.integers(0, HEIGHT - shape[0] + 1))
        left = int(draws.integers(0, WIDTH - shape[1] + 1))
        if not taken[top : top + shape[0], left : left + shape[1]].any():
            return top, left
    return None


def _box(label: str, place: tuple[int, int], shape: tuple[int, ...]) -> dict[str, Any]:
    top, left = place
    return {
        "label": label,
        "left": float(left),
        "top": float(top),
        "right": float(left + shape[1]),
        "bottom": float(top + shape[0]),
    }
