"""The rows of a raw dataset that the task can use, and what was seen of them while the others were found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from retrainer.data.boxes import fit_boxes
from retrainer.data.checks import (
    check_images,
    check_one_label,
    check_reasons,
    check_sounds,
    check_texts,
    clean_labels,
    unusable,
)
from retrainer.data.class_folders import join_labels
from retrainer.data.cut_texts import check_cut_texts
from retrainer.data.id_spelling import check_spelling
from retrainer.data.images import Look, look_at
from retrainer.data.personal_data import check_personal_data
from retrainer.data.splits import GIVEN_TEST, GIVEN_VALIDATION, Rows, content_keys
from retrainer.data.tables import all_rows, dropped_by_ingest, dropped_rows, schema_of, take_rows
from retrainer.data.task_columns import TaskColumns, task_columns
from retrainer.data.times import instant, needed_instants
from retrainer.errors import SettingError
from retrainer.findings import Findings
from retrainer.formats.columns import TYPES
from retrainer.formats.dataset import LABELS, LABELS_ADD_UP, Dataset, names_in
from retrainer.settings import Split, Task
from retrainer.tasks import make_task

# Columns that are everyone's, whatever the task.
_EVERYONES = ("group", "time", "id", "metadata", "origin")


@dataclass
class UsableRows:
    """The rows of `source` that the task can use, and what was seen of them.

    `looks` has one entry a row for every column of images, `words` (int64 [N]) counts those of the inputs.
    `left_out` are the other rows, as `origin` and `reason`; `schema` is that of all.
    """

    source: Dataset
    schema: dict[str, dict[str, Any]]
    table: pa.Table
    columns: TaskColumns
    rows: Rows
    looks: dict[str, list[Look]]
    words: np.ndarray
    left_out: pa.Table

    def sizes(self) -> list[tuple[int, int]]:
        return [look.size for of_column in self.looks.values() for look in of_column]


def usable_rows(source: Dataset, task: Task, split: Split, findings: Findings) -> UsableRows:
    """Looks at every row, and leaves out those that the task cannot use."""
    table, given = all_rows(source)
    schema = schema_of(table, source.manifest.get("types", {}))
    columns = task_columns(task, table.column_names)
    table = _with_clean_labels(table, columns, task.multi_label)
    looks = {name: look_at(table[name]) for name in columns.inputs_of("image")}
    reasons = unusable(table, columns, task.multi_label, looks)
    if faults := getattr(make_task(task), "faults", None):  # what only the task can know
        reasons = [one or other for one, other in zip(reasons, faults(table), strict=True)]
    check_reasons(reasons, columns, table["origin"].to_pylist(), findings)
    if task.multi_label and LABELS in columns.targets and source.manifest.get(LABELS_ADD_UP):
        table = join_labels(table, columns, given, reasons, findings)
    left_out = pa.concat_tables([dropped_by_ingest(source), dropped_rows(table, reasons)])
    kept = [row for row, reason in enumerate(reasons) if reason is None]
    looks = {name: [of_column[row] for row in kept] for name, of_column in looks.items()}
    table = check_personal_data(take_rows(table, kept), columns, task, findings)
    for of_column in list(looks.values())[:1]:
        table = fit_boxes(table, columns, of_column, findings)
    rows = _rows_of(table, columns, [given[row] for row in kept], split)
    words = check_texts(table, columns, task, findings)
    check_cut_texts(table, columns.texts(), findings)
    for of_column in looks.values():
        check_images(of_column, rows.origins, findings)
    check_sounds(table, columns, findings)
    check_spelling(rows, column_of(table, "id"), column_of(table, "group"), findings)
    return UsableRows(source, schema, table, columns, rows, looks, words, left_out)


def _with_clean_labels(table: pa.Table, columns: TaskColumns, multi_label: bool) -> pa.Table:
    """What the task reads and what is everyone's, labels without white space around them."""
    needed = {*columns.inputs, *columns.targets, *_EVERYONES}
    table = table.select([name for name in table.column_names if name in needed])
    if LABELS not in columns.targets:
        return table
    labels = clean_labels(table[LABELS].to_pylist())
    if not multi_label:
        check_one_label(labels, table["origin"].to_pylist())
    return table.set_column(table.column_names.index(LABELS), LABELS, pa.array(labels, TYPES["strings"]))


def _rows_of(table: pa.Table, columns: TaskColumns, given: list[str], split: Split) -> Rows:
    """The usable rows, not yet linked. Raises UserError where `split.by: time` meets a row without a time."""
    keys, origins = content_keys(table, columns.inputs), table["origin"].to_pylist()
    times: list[int | None] = [instant(text) for text in column_of(table, "time")]
    if split.by == "time":
        if "time" not in table.column_names:
            raise SettingError(
                "split.by: time, and the rows have none; set source.time to the column of times"
            )
        own = [row for row, name in enumerate(given) if name not in (GIVEN_TEST, GIVEN_VALIDATION)]
        needed_instants([column_of(table, "time")[row] for row in own], [origins[row] for row in own])
    named = table[columns.classes].to_pylist() if columns.classes else [None] * len(table)
    classes = [tuple(dict.fromkeys(names_in(row))) for row in named]
    targets = content_keys(table, columns.targets, exact=True)
    return Rows(keys, keys, classes, targets, times, origins, given, [None] * len(table))


def column_of(table: pa.Table, name: str) -> list[str | None]:
    """The column's values; as many absent ones where there is no such column."""
    return list(table[name].to_pylist()) if name in table.column_names else [None] * len(table)
