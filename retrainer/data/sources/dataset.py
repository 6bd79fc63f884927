"""A raw dataset that an earlier ingest wrote: exactly its rows again, with the origins they had.

`path` is its directory, for example datasets/NAME after `make adopt` and `dvc pull`. Rows of its own test and
validation sets stay in them; those of `test_path`, another such directory, join its test set. With
`validation: none` the rows of its own validation set join the training rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from retrainer.data.sources._splits import NONE, TEST, TRAIN, VALIDATION, given_columns
from retrainer.errors import SettingError
from retrainer.formats.columns import encoded_columns
from retrainer.formats.dataset import FILES_PER_ROW_GROUP, LABELS_ADD_UP, Dataset
from retrainer.formats.files import MANIFEST
from retrainer.formats.names import RAW_SPLITS
from retrainer.settings import Source

_ROWS_PER_CHUNK = 10_000
_SPLIT_OF = {"given_test": TEST, "given_validation": VALIDATION}


def files(source: Source) -> list[Path]:
    """Every file of the directory. Raises UserError for one that is no raw dataset, or altered."""
    return [
        place
        for dataset, _ in _datasets(source)
        for place in (dataset.path / MANIFEST, *(dataset.path / name for name in dataset.manifest["files"]))
    ]


def labels_add_up(source: Source) -> bool:
    """Whether they did in the source that these rows came from."""
    return any(dataset.manifest.get(LABELS_ADD_UP, False) for dataset, _ in _datasets(source))


def read(source: Source) -> Iterator[pa.Table]:
    """Tables in our columns. Raises UserError as `files` does."""
    split_of = _SPLIT_OF | ({"given_validation": TRAIN} if source.validation == NONE else {})
    for dataset, all_test in _datasets(source):
        for split in dataset.manifest["rows"]:
            for shard in sorted(dataset.path.glob(f"{split}-*.parquet")):
                yield from _chunks(shard, TEST if all_test else split_of.get(split, TRAIN))


def _chunks(shard: Path, split: str) -> Iterator[pa.Table]:
    parquet = pq.ParquetFile(shard)
    most = FILES_PER_ROW_GROUP if encoded_columns(parquet.schema_arrow) else _ROWS_PER_CHUNK
    for batch in parquet.iter_batches(batch_size=most):
        table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
        for name, column in given_columns([split] * len(table)).items():
            table = table.append_column(name, column)
        yield table


def _datasets(source: Source) -> Iterator[tuple[Dataset, bool]]:
    """Each directory, verified, and whether all its rows are to test on."""
    if source.validation not in ("", NONE):
        raise SettingError(
            f"source.validation: {source.path} is a dataset of ours, which has no '{source.validation}';"
            " leave it empty for the validation set that it was given, or set it to none"
        )
    for setting, path in (("path", source.path), ("test_path", source.test_path)):
        if not path:
            continue
        if not Path(path).is_dir():
            raise SettingError(
                f"source.{setting}: there is no directory {path}; if it is kept by DVC: dvc pull {path}.dvc"
            )
        dataset = Dataset(Path(path))
        if not set(dataset.manifest["rows"]) <= set(RAW_SPLITS):
            raise SettingError(
                f"source.{setting}: {path} is split already; name the raw dataset, as ingest wrote it"
            )
        yield dataset, setting == "test_path"
