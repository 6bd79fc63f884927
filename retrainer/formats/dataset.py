"""The dataset on disk: Parquet shards by split and a manifest that answers for every row.

    <split>-00000.parquet   the data's columns of SCHEMA; Hugging Face `datasets` opens them as they are
    dropped.parquet         origin and reason of every row left out, if any
    row_keys.parquet        64 bits of each row's content key (preprocess; see `row_keys`)
    components.parquet      which rows depend on each other (preprocess; see `row_keys`)
    profile.parquet         labels counted, and rows sampled as numbers, for drift (preprocess; see `profile`)
    manifest.json           format version, schema, counts per split and class, sources, sha256 per file,
                            and `content_sha256`, which depends on no order, sharding, path or machine

Columns: `text`, `text_pair` (strings), `image` (encoded bytes), `labels` (list of class names; one of them
for single-label), `group`, `time`, `id` (strings), `metadata` (JSON of the further columns that
`source.metadata` names, each value as a string), `origin` (file and row, never part of the content hash).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from retrainer import __version__
from retrainer.errors import UserError
from retrainer.formats.files import (
    MANIFEST,
    canonical_json,
    hash_files,
    read_manifest,
    whole_directory,
    write_json,
)

KIND = "dataset"
FORMAT_VERSION = 1
ROWS_PER_SHARD = 100_000
# A reader holds the nested bytes of one row group in one array, which ends at 2 GiB.
IMAGES_PER_ROW_GROUP = 100

# Only formats whose decoders are plain: an EPS file, say, would start another program.
IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SCHEMA: dict[str, pa.DataType] = {
    "text": pa.string(),
    "text_pair": pa.string(),
    "image": IMAGE,
    "labels": pa.list_(pa.string()),
    "group": pa.string(),
    "time": pa.string(),
    "id": pa.string(),
    "metadata": pa.string(),
    "origin": pa.string(),
}
# A raw dataset (what ingest writes) has these splits; preprocess turns them into the others.
RAW_SPLITS = ("all", "given_test")
SPLITS = ("train", "validation", "test")
_CONTENT = ("text", "text_pair", "image", "labels", "group", "time", "id", "metadata")


def row_digest(row: dict[str, Any]) -> bytes:
    """sha256 over what a row says (not where it stood)."""
    content = {}
    for name in _CONTENT:
        value = row.get(name)
        if value is None:
            continue
        content[name] = hashlib.sha256(value["bytes"]).hexdigest() if name == "image" else value
    return hashlib.sha256(canonical_json(content)).digest()


def content_hash(splits: dict[str, pa.Table]) -> str:
    """One sha256 for all rows of all splits, whatever their order."""
    total = hashlib.sha256()
    for split in sorted(splits):
        digests = sorted(
            row_digest(row) for batch in splits[split].to_batches(1024) for row in batch.to_pylist()
        )
        total.update(split.encode() + len(digests).to_bytes(8, "big"))
        for digest in digests:
            total.update(digest)
    return total.hexdigest()


def _schema(table: pa.Table) -> pa.Schema:
    """Our columns in a fixed order, with the note by which `datasets` decodes images."""
    names = [name for name in SCHEMA if name in table.column_names]
    features: dict[str, Any] = {n: {"dtype": "string", "_type": "Value"} for n in names}
    features |= (
        {"labels": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}}
        if "labels" in names
        else {}
    )
    features |= {"image": {"_type": "Image"}} if "image" in names else {}
    note = json.dumps({"info": {"features": features}}, sort_keys=True)
    return pa.schema([(name, SCHEMA[name]) for name in names], metadata={"huggingface": note})


def write_dataset(
    path: Path,
    splits: dict[str, pa.Table],
    dropped: pa.Table | None = None,
    extra: dict[str, Any] | None = None,
    beside: Callable[[Path], None] | None = None,
) -> dict[str, Any]:
    """Writes a whole dataset directory and returns its manifest.

    `dropped` has columns `origin` and `reason`; `extra` is kept in the manifest as it is. `beside` writes
    further files into the directory that it gets.
    """
    with whole_directory(path) as directory:
        for split, table in splits.items():
            group = IMAGES_PER_ROW_GROUP if "image" in table.column_names else ROWS_PER_SHARD
            shaped = table.select([n for n in SCHEMA if n in table.column_names]).cast(_schema(table))
            for number in range(max(1, -(-len(shaped) // ROWS_PER_SHARD))):
                shard = shaped.slice(number * ROWS_PER_SHARD, ROWS_PER_SHARD)
                name = f"{split}-{number:05d}.parquet"
                pq.write_table(shard, directory / name, compression="zstd", row_group_size=group)
        if dropped is not None and len(dropped):
            pq.write_table(dropped, directory / "dropped.parquet", compression="zstd")
        manifest = {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "retrainer": __version__,
            "columns": [n for n in SCHEMA if any(n in t.column_names for t in splits.values())],
            "rows": {split: len(table) for split, table in splits.items()},
            "classes": {split: class_counts(table) for split, table in splits.items()},
            "dropped": _reasons(dropped),
            "content_sha256": content_hash(splits),
            **(extra or {}),
        }
        if beside is not None:
            beside(directory)
        manifest["files"] = hash_files(directory)
        write_json(directory / MANIFEST, manifest)
    return manifest


def _reasons(dropped: pa.Table | None) -> dict[str, int]:
    return dict(sorted(Counter(dropped["reason"].to_pylist()).items())) if dropped is not None else {}


def class_counts(table: pa.Table) -> dict[str, int]:
    """Rows per class name, names sorted; a multi-label row counts once for each of its labels."""
    return dict(sorted(Counter(label for row in table["labels"].to_pylist() for label in row or ()).items()))


class Dataset:
    """Reads a dataset directory after checking its hashes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = read_manifest(path, KIND, FORMAT_VERSION)

    @property
    def content_sha256(self) -> str:
        return str(self.manifest["content_sha256"])

    @property
    def labels(self) -> tuple[str, ...]:
        """Every class of every split, sorted: a class's index is its place here."""
        return tuple(sorted({name for counts in self.manifest["classes"].values() for name in counts}))

    def split(self, name: str, columns: Iterable[str] | None = None) -> pa.Table:
        """All rows of one split, in the order they were written."""
        shards = sorted(self.path.glob(f"{name}-*.parquet"))
        if not shards:
            raise UserError(f"{self.path} has no split '{name}'; it has {', '.join(self.manifest['rows'])}")
        wanted = None if columns is None else [c for c in columns if c in self.manifest["columns"]]
        return pa.concat_tables([pq.ParquetFile(shard).read(wanted) for shard in shards])
