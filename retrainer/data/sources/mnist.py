"""The whole of MNIST through torchvision: 60,000 digits, and its 10,000 test digits as the given test set.

It is downloaded because this source was asked for, once, into `source.path` or the user's cache folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from retrainer.data.sources.digits import digit_table
from retrainer.errors import UserError
from retrainer.settings import Source

# As torchvision lays them out, unpacked.
_FILES = tuple(
    f"MNIST/raw/{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")
)


def files(source: Source) -> list[Path]:
    """The four files, downloaded when they are not there yet. Raises UserError when that cannot be done."""
    folder = _folder(source)
    paths = [folder / name for name in _FILES]
    if not all(path.is_file() for path in paths):
        _download(folder)
    return paths


def read(source: Source) -> Iterator[pa.Table]:
    """Two tables, the second with `given_test`: image (PNG bytes), labels "0" … "9", origin."""
    from torchvision.datasets import MNIST

    files(source)
    for train, name in ((True, "train-images-idx3-ubyte"), (False, "t10k-images-idx3-ubyte")):
        data = MNIST(_folder(source), train=train)
        yield digit_table(data.data.numpy(), data.targets.numpy(), name, given_test=not train)


def _folder(source: Source) -> Path:
    if source.test_path:
        raise UserError("source.test_path has no meaning with source.kind mnist, which has its own test set")
    return Path(source.path) if source.path else Path.home() / ".cache" / "retrainer"


def _download(folder: Path) -> None:
    from torchvision.datasets import MNIST

    try:
        MNIST(folder, download=True)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"source.kind mnist: cannot download MNIST ({reason}); put its files into {folder}/MNIST/raw, "
            "or use source.kind: digits, which needs no network"
        ) from None
