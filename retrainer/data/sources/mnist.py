"""The whole of MNIST through torchvision: 60,000 digits, and its 10,000 test digits as the given test set.

They are downloaded because this source was asked for, once, into `source.path` or the user's cache folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.data.sources.digits import SIDE, digit_table
from retrainer.errors import SettingError
from retrainer.settings import Source

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

# As torchvision lays them out, unpacked: images and labels of 60,000 training and 10,000 test digits.
_TRAIN, _TEST = (
    (f"MNIST/raw/{part}-images-idx3-ubyte", f"MNIST/raw/{part}-labels-idx1-ubyte")
    for part in ("train", "t10k")
)


def files(source: Source) -> list[Path]:
    """The four files, downloaded when they are not there yet. Raises UserError when that cannot be done."""
    folder = _folder(source)
    paths = [folder / name for name in (*_TRAIN, *_TEST)]
    if not all(path.is_file() for path in paths):
        _download(folder)
    return paths


def read(source: Source) -> Iterator[pa.Table]:
    """Two tables, the second with `given_test`: image (PNG bytes), labels "0" … "9", origin."""
    files(source)
    for (images, labels), given_test in ((_TRAIN, False), (_TEST, True)):
        pixels = _read_idx(_folder(source) / images, (SIDE, SIDE))
        digits = _read_idx(_folder(source) / labels, ())
        yield digit_table(pixels, digits, Path(images).name, given_test)


def _read_idx(path: Path, item: tuple[int, ...]) -> np.ndarray:
    """uint8 [N, *item] from MNIST's own format: type 8, the number of dimensions, each of them, the data."""
    import numpy as np

    data = path.read_bytes()
    header, count = 4 * (2 + len(item)), int.from_bytes(data[4:8], "big")
    if data[:4] != bytes([0, 0, 8, 1 + len(item)]) or len(data) != header + count * math.prod(item):
        raise SettingError(f"source.kind mnist: {path} is not whole; delete it to download it again")
    return np.frombuffer(data, np.uint8, offset=header).reshape(count, *item)


def _folder(source: Source) -> Path:
    if source.test_path:
        raise SettingError(
            "source.test_path has no meaning with source.kind mnist, which has its own test set"
        )
    return Path(source.path) if source.path else Path.home() / ".cache" / "retrainer"


def _download(folder: Path) -> None:
    try:
        from torchvision.datasets import MNIST

        MNIST(folder, download=True)
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).strip().rpartition("\n")[2][:120]
        raise SettingError(
            f"source.kind mnist: cannot download MNIST ({reason}); put its files into {folder}/MNIST/raw, "
            "or use source.kind: digits, which needs no network"
        ) from None
