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
A task may bring further ones, of any type of `columns`: they stand after these in the order of their names,
the manifest has their types as `types`, and the format is then 2 instead of 1. With an own validation set
among the splits of a raw dataset it is 3.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from retrainer import __version__
from retrainer.errors import DataError
from retrainer.formats.columns import ENCODED, TYPES, classes_of_mask, encoded_columns, feature, word_of
from retrainer.formats.files import (
    MANIFEST,
    canonical_json,
    hash_files,
    read_manifest,
    whole_directory,
    write_json,
)
from retrainer.formats.names import RAW_SPLITS

KIND = "dataset"
# The second is that of a dataset with columns beyond SCHEMA, the third that of a raw one with an own
# validation set: older readers would not see either.
FORMAT_VERSIONS = (1, 2, 3)
ROWS_PER_SHARD = 100_000
# A reader holds the nested bytes of one row group in one array, which ends at 2 GiB.
FILES_PER_ROW_GROUP = 100

IMAGE = ENCODED
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
LABELS = "labels"
# In a raw dataset's manifest: a row has one label of its file, and other rows of the file may have others.
LABELS_ADD_UP = "labels_add_up"
# In a manifest: column → its name in the source, of those that have another name there.
SOURCE_NAMES = "source_names"
# Not what a row says, but where it stood.
_PLACE = ("origin", "given_test", "given_validation")


def row_digest(row: dict[str, Any]) -> bytes:
    """sha256 over what a row says (not where it stood)."""
    content = {
        name: _content(value) for name, value in row.items() if value is not None and name not in _PLACE
    }
    return hashlib.sha256(canonical_json(content)).digest()


def _content(value: Any) -> Any:
    """A value as JSON can hold it: of an image, a sound or a mask the sha256 of its bytes."""
    if not isinstance(value, dict):
        return value
    if "bytes" in value:
        return hashlib.sha256(value["bytes"]).hexdigest()
    return {name: _content(part) for name, part in value.items()}


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


def ordered(names: Iterable[str]) -> list[str]:
    """Each name once: those of SCHEMA in its order, then all others by name."""
    given = set(names)
    return [name for name in SCHEMA if name in given] + sorted(given - set(SCHEMA))


def types_of(table: pa.Table, known: Mapping[str, str]) -> dict[str, str]:
    """Column → its type in one word, in the order of the format; columns of other types are left out.

    `known` has the words that the Arrow type does not tell.
    """
    kinds = {field.name: SCHEMA.get(field.name, field.type) for field in table.schema}
    words = {name: known.get(name) or word_of(name, kinds[name]) for name in ordered(kinds)}
    return {name: word for name, word in words.items() if word is not None}


def _schema(table: pa.Table, known: Mapping[str, str]) -> pa.Schema:
    """The columns in their order, with the note by which `datasets` decodes images."""
    types = types_of(table, known)
    features = {name: feature(word) for name, word in types.items()}
    note = json.dumps({"info": {"features": features}}, sort_keys=True)
    kinds = [(name, SCHEMA.get(name, TYPES[word])) for name, word in types.items()]
    return pa.schema(kinds, metadata={"huggingface": note})


@dataclass(frozen=True)
class About:
    """What a dataset keeps beside the rows of its splits.

    dropped: the rows left out, as columns `origin` and `reason`.
    types: the words of columns beyond SCHEMA, where their Arrow types do not tell them.
    classes: the column whose names are counted; None for `labels`, or else the first of boxes or masks.
    extra: further entries of the manifest.
    beside: writes further files into the directory that it gets.
    """

    dropped: pa.Table | None = None
    types: Mapping[str, str] = field(default_factory=dict)
    classes: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    beside: Callable[[Path], None] | None = None


def write_dataset(path: Path, splits: dict[str, pa.Table], about: About | None = None) -> dict[str, Any]:
    """Writes a whole dataset directory and returns its manifest."""
    about = about or About()
    splits = {name: _shaped(table, about.types) for name, table in splits.items()}
    with whole_directory(path) as directory:
        for split, table in splits.items():
            _write_shards(directory, split, table)
        if about.dropped is not None and len(about.dropped):
            pq.write_table(about.dropped, directory / "dropped.parquet", compression="zstd")
        manifest = _manifest(splits, about)
        if about.beside is not None:
            about.beside(directory)
        manifest["files"] = hash_files(directory)
        write_json(directory / MANIFEST, manifest)
    return manifest


def _write_shards(directory: Path, split: str, table: pa.Table) -> None:
    group = FILES_PER_ROW_GROUP if encoded_columns(table.schema) else ROWS_PER_SHARD
    for number in range(max(1, -(-len(table) // ROWS_PER_SHARD))):
        shard = table.slice(number * ROWS_PER_SHARD, ROWS_PER_SHARD)
        name = f"{split}-{number:05d}.parquet"
        pq.write_table(shard, directory / name, compression="zstd", row_group_size=group)


def _manifest(splits: dict[str, pa.Table], about: About) -> dict[str, Any]:
    """All of it but the hashes of the files."""
    words = {name: word for table in splits.values() for name, word in types_of(table, about.types).items()}
    further = {name: words[name] for name in ordered(words) if name not in SCHEMA}
    classes = about.classes or _classes_column(words)
    return {
        "kind": KIND,
        "format_version": 3 if RAW_SPLITS[2] in splits else 2 if further else 1,
        "retrainer": __version__,
        "columns": ordered(words),
        **({"types": further} if further else {}),
        "rows": {split: len(table) for split, table in splits.items()},
        "classes": {split: class_counts(table, classes) for split, table in splits.items()},
        "dropped": _reasons(about.dropped),
        "content_sha256": content_hash(splits),
        **about.extra,
    }


def _reasons(dropped: pa.Table | None) -> dict[str, int]:
    return dict(sorted(Counter(dropped["reason"].to_pylist()).items())) if dropped is not None else {}


def _shaped(table: pa.Table, known: Mapping[str, str]) -> pa.Table:
    schema = _schema(table, known)
    return table.select(schema.names).cast(schema)


def _classes_column(words: Mapping[str, str]) -> str | None:
    named = [name for name, word in words.items() if word in ("boxes", "mask")]
    return LABELS if LABELS in words else next(iter(named), None)


def class_counts(table: pa.Table, column: str | None = LABELS) -> dict[str, int]:
    """Rows per class name, names sorted; a row of several counts once for each of them, a box for its own,
    a mask for each class that it shows."""
    if column is None or column not in table.column_names:
        return {}
    return dict(sorted(Counter(name for row in table[column].to_pylist() for name in names_in(row)).items()))


def names_in(value: list[Any] | dict[str, Any] | None) -> list[str]:
    """The class names of a row: those of a list of strings, of boxes, or of a mask."""
    if isinstance(value, dict):
        return classes_of_mask(value)
    return [item["label"] if isinstance(item, dict) else item for item in value or ()]


class Dataset:
    """Reads a dataset directory after checking its hashes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = read_manifest(path, KIND, *FORMAT_VERSIONS)

    @property
    def content_sha256(self) -> str:
        return str(self.manifest["content_sha256"])

    @property
    def labels(self) -> tuple[str, ...]:
        """Every class of every split, sorted: a class's index is its place here."""
        return tuple(sorted({name for counts in self.manifest["classes"].values() for name in counts}))

    def first(self, name: str, rows: int, columns: Iterable[str]) -> pa.Table:
        """The first rows of one split; reads no more than these."""
        wanted = [c for c in columns if c in self.manifest["columns"]]
        file = pq.ParquetFile(self._shards(name)[0])
        return pa.Table.from_batches([next(file.iter_batches(rows, columns=wanted))])

    def split(self, name: str, columns: Iterable[str] | None = None) -> pa.Table:
        """All rows of one split, in the order they were written."""
        wanted = None if columns is None else [c for c in columns if c in self.manifest["columns"]]
        return pa.concat_tables([pq.ParquetFile(shard).read(wanted) for shard in self._shards(name)])

    def _shards(self, name: str) -> list[Path]:
        shards = sorted(self.path.glob(f"{name}-*.parquet"))
        if not shards:
            raise DataError(f"{self.path} has no split '{name}'; it has {', '.join(self.manifest['rows'])}")
        return shards
