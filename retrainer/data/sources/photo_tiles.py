"""Two photographs inside the package scikit-learn, cut into tiles of 40 × 40 pixels: a temple, and a flower.

They show that photographs run without a download, and measure nothing: tiles of one picture are alike.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.data.sources._package import package_file, verified_bytes
from retrainer.settings import Source

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

# Class → the file, and its sha256.
PHOTOS = {
    "flower": ("flower.jpg", "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638"),
    "temple": ("china.jpg", "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29"),
}
SIDE = 40


def files(source: Source) -> list[Path]:
    """Both photographs. Raises UserError when the package is not installed."""
    return [package_file(source, "sklearn", f"datasets/images/{name}") for name, _ in PHOTOS.values()]


def read(source: Source) -> Iterator[pa.Table]:
    """A table for each photograph: image (PNG bytes), labels, origin."""
    import pyarrow as pa

    from retrainer.data.sources._columns import encoded_array
    from retrainer.data.sources._png import colour_png
    from retrainer.formats.dataset import SCHEMA

    for path, (label, (_, sha256)) in zip(files(source), PHOTOS.items(), strict=True):
        tiles = _tiles(verified_bytes(path, sha256))
        yield pa.table(
            {
                "image": encoded_array([colour_png(tile) for tile in tiles.values()]),
                "labels": pa.array([[label]] * len(tiles), SCHEMA["labels"]),
                "origin": pa.array([f"{path.name}:{place}" for place in tiles], pa.string()),
            }
        )


def _tiles(photo: bytes) -> dict[str, np.ndarray]:
    """`row 3, column 5` → uint8 [SIDE, SIDE, 3]; what is left at the right and below is cut off."""
    import numpy as np
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(photo)).convert("RGB"))
    rows, columns = pixels.shape[0] // SIDE, pixels.shape[1] // SIDE
    return {
        f"row {row + 1}, column {column + 1}": pixels[
            row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE
        ]
        for row in range(rows)
        for column in range(columns)
    }
