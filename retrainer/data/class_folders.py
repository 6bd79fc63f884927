"""A file that lies in several class folders: one row that has the labels of all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa

from retrainer.data.splits import content_keys
from retrainer.data.tables import take_rows
from retrainer.data.task_columns import TaskColumns
from retrainer.findings import Findings
from retrainer.formats.columns import TYPES
from retrainer.formats.dataset import LABELS

IN_ANOTHER_FOLDER = "the same file in another class folder"


def join_labels(
    table: pa.Table,
    columns: TaskColumns,
    given: Sequence[str],
    reasons: list[str | None],
    findings: Findings,
) -> pa.Table:
    """The table in which the first of the rows of equal content, by origin, has the labels of them all; the
    others get a reason to be left out. `given` is the raw split of each row: each has its own.
    """
    origins, labels = table["origin"].to_pylist(), table[LABELS].to_pylist()
    kept = [row for row, reason in enumerate(reasons) if reason is None]
    keys = dict(zip(kept, content_keys(take_rows(table, kept), columns.inputs), strict=True))
    same: dict[tuple[bytes, str], list[int]] = defaultdict(list)
    for row in sorted(kept, key=origins.__getitem__):
        same[keys[row], given[row]].append(row)
    several = [rows for rows in same.values() if len({tuple(labels[row]) for row in rows}) > 1]
    for first, *others in several:
        labels[first] = sorted({label for row in (first, *others) for label in labels[row]})
        for row in others:
            reasons[row] = IN_ANOTHER_FOLDER
    if several:
        named = (f"{origins[rows[0]]}: {', '.join(labels[rows[0]])}" for rows in several)
        findings.add(
            "several_folders", len(several), "files in several class folders; each has their labels", named
        )
    place = table.column_names.index(LABELS)
    return table.set_column(place, LABELS, pa.array(labels, TYPES["strings"]))
