"""What a dataset is like, without a model: labels counted, and a sample of its rows as numbers.

Two profiles are compared by `retrainer.retraining`. Rows of one component (one group, or nearly equal
content) depend on each other and would pass for more than they are, so one row stands for each.

Legend: N rows, C components, S measures, D dimensions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from retrainer.data.profile import images, sounds, texts
from retrainer.data.tables import take_rows
from retrainer.formats.profile import Profile

# The readers of a row's columns, each `measure(column) -> (names, measures [N, S], embedding [N, D])`. Of a
# column without one, as a plug-in's may be, nothing is measured: then labels alone are compared.
_READERS = {
    "text": texts.measure,
    "text_pair": texts.measure,
    "image": images.measure,
    "audio": sounds.measure,
}
SAMPLE = 2048
# Names, measures [N, S], embedding [N, D].
Measured = tuple[tuple[str, ...], np.ndarray, np.ndarray]
# A row of a multi-label task without a label.
NO_LABEL = ""


def profile_of(
    table: pa.Table,
    places: Sequence[int],
    keys: np.ndarray,
    components: np.ndarray,
    measure: Callable[[pa.Table, list[int]], Measured] | None = None,
) -> Profile:
    """The profile of the rows at these places of a table, with their keys and components, both uint64 [N].

    Of more than SAMPLE components so many are measured, chosen by a hash of their names. `measure` may know
    the numbers of the rows at some places already.
    """
    stands = _one_a_component(keys, components)
    labels = chosen_labels(
        labels_of(table).take(pa.array(np.asarray(places, np.int64)[stands])), keys[stands]
    )
    sample = np.sort(np.argsort(_mixed(components[stands]), kind="stable")[:SAMPLE])
    names, measures, embedding = (measure or measured)(table, [places[at] for at in stands[sample]])
    return Profile(
        columns=_measurable(table),
        names=names,
        counts=dict(sorted(Counter(labels).items())),
        keys=keys[stands][sample],
        labels=[labels[at] for at in sample],
        measures=measures,
        embedding=embedding,
    )


def labels_of(table: pa.Table) -> pa.ChunkedArray:
    """The labels; of rows that have none an absent one each."""
    return table["labels"] if "labels" in table.column_names else pa.chunked_array([pa.nulls(len(table))])


def _one_a_component(keys: np.ndarray, components: np.ndarray) -> np.ndarray:
    """int64 [C]: of each component the row whose key has the smallest hash, whatever the rows' order."""
    order = np.lexsort((_mixed(keys), components))
    _, first = np.unique(components[order], return_index=True)
    return order[first]


def chosen_labels(column: pa.ChunkedArray, keys: np.ndarray) -> list[str]:
    """One label a row: of several the one that its key chooses, so that rows are counted once."""
    given = column.to_pylist()
    return [
        sorted(row)[int(key) % len(row)] if row else NO_LABEL for row, key in zip(given, keys, strict=True)
    ]


def _measurable(table: pa.Table) -> tuple[str, ...]:
    return tuple(name for name in _READERS if name in table.column_names)


def measured(table: pa.Table, places: list[int]) -> Measured:
    """The rows at these places, all their columns side by side, as they are kept: in float16's precision."""
    columns = _measurable(table)
    rows = take_rows(table.select(columns), places) if columns else table
    names: list[str] = []
    measures, embeddings = [np.zeros((len(places), 0))], [np.zeros((len(places), 0))]
    for column in columns:
        measure_names, values, embedded = _READERS[column](rows[column])
        names += [name if column != "text_pair" else f"{name} of text_pair" for name in measure_names]
        measures.append(values)
        embeddings.append(embedded)
    return tuple(names), _kept(measures), _kept(embeddings)


def _kept(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts, axis=1).astype(np.float16).astype(np.float32)


def _mixed(values: np.ndarray) -> np.ndarray:
    """uint64 → uint64, every bit stirred into every bit: an order that says nothing else of the rows."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return values ^ (values >> np.uint64(31))
