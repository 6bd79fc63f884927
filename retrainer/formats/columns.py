"""The types that a column of a dataset can have, as one word each: what a task asks for, and ingest makes.

string, strings   text; a list of them (class names, tags)
number, numbers   float64; a list of them
image, audio      the file's bytes as they came, and its path: what Hugging Face `datasets` decodes
boxes             a list of objects in an image: its label and the corners in pixels, from the top left
mask              an encoded picture of one value a pixel, and the values' classes (`retrainer.formats.masks`)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from retrainer.formats.names import CORNERS, FILE_TYPES

if TYPE_CHECKING:
    import numpy as np

ENCODED = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
# By name: only so does `datasets` decode the image inside.
MASK = pa.struct([("classes", pa.list_(pa.string())), ("image", ENCODED)])
BOX = pa.struct([("label", pa.string()), *((corner, pa.float64()) for corner in CORNERS)])

TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "strings": pa.list_(pa.string()),
    "number": pa.float64(),
    "numbers": pa.list_(pa.float64()),
    **dict.fromkeys(FILE_TYPES, ENCODED),
    "boxes": pa.list_(BOX),
    "mask": MASK,
}


def word_of(name: str, kind: pa.DataType) -> str | None:
    """The word for a column of this Arrow type; None for a type that no word means.

    Images and sounds have one Arrow type: where nobody says which it is, a column of the name `audio` holds
    sounds.
    """
    if kind == ENCODED:
        return "audio" if name == "audio" else "image"
    return next((word for word, known in TYPES.items() if known == kind), None)


def encoded_columns(schema: pa.Schema) -> list[str]:
    """Columns that hold whole files, so that few of their rows are handled at a time."""
    return [field.name for field in schema if field.type == ENCODED]


# Of a field: the name that its column had in the source.
_SOURCE_NAME = b"source_name"


def with_source_names(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    """The table, which says of its columns in `names` what they are called in the user's own data."""
    if not names:
        return table
    fields = [
        field.with_metadata({_SOURCE_NAME: names[field.name]}) if field.name in names else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields, table.schema.metadata))


def source_names(schema: pa.Schema) -> dict[str, str]:
    """Column → its name in the user's own data, of those that have another name there."""
    noted = {field.name: (field.metadata or {}).get(_SOURCE_NAME) for field in schema}
    return {name: value.decode() for name, value in noted.items() if value is not None}


def feature(word: str) -> dict[str, Any]:
    """The note by which Hugging Face `datasets` (5.2) reads a column of this type."""
    text, number = {"dtype": "string", "_type": "Value"}, {"dtype": "float64", "_type": "Value"}
    features: dict[str, dict[str, Any]] = {
        "string": text,
        "strings": {"feature": text, "_type": "List"},
        "number": number,
        "numbers": {"feature": number, "_type": "List"},
        "image": {"_type": "Image"},
        "audio": {"_type": "Audio"},
        "boxes": {"feature": {"label": text} | dict.fromkeys(CORNERS, number), "_type": "List"},
        "mask": {"image": {"_type": "Image"}, "classes": {"feature": text, "_type": "List"}},
    }
    return features[word]


def class_names(table: pa.Table, targets: Mapping[str, str]) -> list[list[str]] | None:
    """Of each row, the classes that it has by the first target of names, boxes or a mask, each once.

    `targets`: column → its type, a word of TYPES. None where no target names classes.
    """
    for column, word in targets.items():
        if word == "strings":
            return [list(dict.fromkeys(names or ())) for names in table[column].to_pylist()]
        if word == "boxes":
            return [
                list(dict.fromkeys(one["label"] for one in boxes or ()))
                for boxes in table[column].to_pylist()
            ]
        if word == "mask":
            return [classes_of_mask(mask) for mask in each(table[column])]
    return None


def picked(table: pa.Table, rows: Iterable[int]) -> pa.Table:
    """The rows of these numbers, as slices, which copy nothing.

    `Table.take` makes one array of a column, and the bytes of many images or sounds do not fit into one of
    Arrow's: beyond 2 GiB their offsets overflow, and no error says so (seen with pyarrow 25.0.1).
    """
    return pa.concat_tables([table.slice(int(row), 1) for row in rows] or [table.slice(0, 0)])


def each(column: pa.ChunkedArray) -> Iterator[Any]:
    """Its values one by one: the bytes of all masks or images at once would be in memory twice."""
    return (value.as_py() for value in column)


def classes_of_mask(mask: Mapping[str, Any] | None) -> list[str]:
    """The names of a mask's classes, each once."""
    return list(dict.fromkeys(name for name in (mask or {}).get("classes") or () if name is not None))


def probability_matrix(predictions: pa.Table) -> np.ndarray:
    """[N, K] of the column `probabilities`, a struct of one number a class: classes in its own order."""
    import numpy as np

    shares = predictions["probabilities"].combine_chunks()
    if not len(shares):
        return np.zeros((0, shares.type.num_fields), np.float32)
    fields = range(shares.type.num_fields)
    return np.stack([shares.field(n).to_numpy(zero_copy_only=False) for n in fields], axis=1)
