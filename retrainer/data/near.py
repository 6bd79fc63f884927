"""Near-duplicates among the rows: which contents are nearly equal, and the pairs that the report draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from retrainer.data.splits import components
from retrainer.data.tables import take_encoded
from retrainer.data.task_columns import TaskColumns
from retrainer.findings import Findings, share_of
from retrainer.settings import Checks

Pairs = list[tuple[bytes, bytes]]
MOST_DRAWN = 12


class Contents:
    """The distinct contents of the rows, each by the first row that has it, in the order of their keys."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.first: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            self.first.setdefault(key, row)
        self.keys = sorted(self.first)
        self.rows = [self.first[key] for key in self.keys]


def near_duplicates(
    table: pa.Table,
    columns: TaskColumns,
    keys: Sequence[bytes],
    findings: Findings,
    hashes: np.ndarray | None = None,
) -> Pairs:
    """Pairs of content keys that are nearly equal; none when the check is off. `hashes`: the rows'
    `perceptual_hashes`, where these are known.

    Where the task reads an image, or else a sound, that decides alone (the first one, where there are
    several), whatever is said of it: so none stands in two splits. Else it is the texts, of a pair both
    together; of other inputs only what is equal is found.
    """
    if not columns.inputs_of("image", "audio", "string") or not findings.looks("near_duplicates"):
        return []
    contents = Contents(keys)
    distinct = None if hashes is None else hashes[contents.rows]
    found = _alike(table, columns, contents.rows, findings.checks, distinct)
    pairs = [(contents.keys[one], contents.keys[other]) for one, other in found.tolist()]
    _note(table, keys, contents, pairs, findings)
    return pairs


def _alike(
    table: pa.Table, columns: TaskColumns, rows: list[int], checks: Checks, hashes: np.ndarray | None
) -> np.ndarray:
    """int64 [pairs, 2], places in `rows`."""
    from retrainer.data.similar import similar_images, similar_sounds, similar_texts

    images, sounds = columns.inputs_of("image"), columns.inputs_of("audio")
    if images:
        return similar_images(take_encoded(table[images[0]], rows), checks.image_distance)
    if sounds:
        return similar_sounds(take_encoded(table[sounds[0]], rows), hashes)
    places = pa.array(rows, pa.int64())
    texts = [table[name].take(places).to_pylist() for name in columns.inputs_of("string")]
    joined = ["\n".join(parts) for parts in zip(*texts, strict=True)]
    return similar_texts(joined, checks.text_similarity)


def _note(
    table: pa.Table, keys: Sequence[bytes], contents: Contents, pairs: Pairs, findings: Findings
) -> None:
    alike = {key for pair in pairs for key in pair}
    clusters = len(set(components(sorted(alike), [None] * len(alike), pairs)))
    rows = sum(key in alike for key in keys)
    origins = table["origin"]
    named = (
        f"{origins[contents.first[one]]} ~ {origins[contents.first[other]]}" for one, other in drawn(pairs)
    )
    note = f"pairs of near-duplicates ({rows} rows in {clusters} clusters); each cluster is in one split"
    cure, share = "leave out all but one of each cluster", share_of(rows, len(keys))
    findings.add("near_duplicates", len(pairs), note, named, cure, share)


def drawn(pairs: Pairs) -> Pairs:
    """At most MOST_DRAWN of the pairs, of as many clusters as there are."""
    nodes = sorted({key for pair in pairs for key in pair})
    cluster = dict(zip(nodes, components(nodes, [None] * len(nodes), pairs), strict=True))
    first: dict[bytes, tuple[bytes, bytes]] = {}
    for pair in pairs:
        first.setdefault(cluster[pair[0]], pair)
    chosen = list(first.values())[:MOST_DRAWN]
    further = [pair for pair in pairs if pair not in set(chosen)]
    return chosen + further[: MOST_DRAWN - len(chosen)]
