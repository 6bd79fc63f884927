"""Near-duplicates among the rows: which contents are nearly equal, and the pairs that the report draws."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from retrainer.data.splits import components
from retrainer.data.tables import take_encoded
from retrainer.data.task_columns import TaskColumns
from retrainer.findings import Findings, share_of

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
    table: pa.Table, columns: TaskColumns, keys: Sequence[bytes], findings: Findings
) -> Pairs:
    """Pairs of content keys that are nearly equal; none when the check is off.

    Where the task reads an image that decides alone (the first one, where there are several), whatever is
    said of it: so an image never stands in two splits. Else it is the texts, of a pair both together; of
    other inputs, such as sounds, only what is equal to the byte is found.
    """
    images, texts = columns.inputs_of("image"), columns.inputs_of("string")
    if not (images or texts) or not findings.looks("near_duplicates"):
        return []
    from retrainer.data.similar import similar_images, similar_texts

    contents = Contents(keys)
    if images:
        distinct = take_encoded(table[images[0]], contents.rows)
        found = similar_images(distinct, findings.checks.image_distance)
    else:
        places = pa.array(contents.rows, pa.int64())
        distinct_texts = [table[name].take(places).to_pylist() for name in texts]
        joined = ["\n".join(parts) for parts in zip(*distinct_texts, strict=True)]
        found = similar_texts(joined, findings.checks.text_similarity)
    pairs = [(contents.keys[one], contents.keys[other]) for one, other in found.tolist()]
    _note(table, keys, contents, pairs, findings)
    return pairs


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
