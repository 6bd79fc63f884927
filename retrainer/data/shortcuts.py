"""What gives a row's class away without being what the task is about, looked for before anything is trained.

A further probe is a file in `retrainer/data/probes/` and a place in PROBES.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from retrainer.data.probes import (
    columns,
    image_files,
    image_pixels,
    label_in_text,
    sounds,
    text_shape,
    tokens,
)
from retrainer.data.probes._rows import Sample, Shortcut
from retrainer.data.probes.target_in_text import share_written
from retrainer.data.splits import Rows, position
from retrainer.data.tables import take_rows
from retrainer.data.task_columns import TaskColumns
from retrainer.findings import Findings
from retrainer.formats.dataset import LABELS

PROBES = (label_in_text, tokens, text_shape, columns, image_files, image_pixels, sounds)
# Rows that are looked at, whatever their number: files cost more.
_MOST_ROWS, _MOST_FILES = 20_000, image_files.MOST_ROWS
_LEAST_ROWS = 40
_LEAST_WRITTEN = 0.5
_LEAKS, _SHORTCUTS = "leaks", "shortcuts"


def check_shortcuts(
    table: pa.Table, task_columns: TaskColumns, rows: Rows, training: list[int], findings: Findings
) -> None:
    """The checks `leaks` (what cannot be there by right) and `shortcuts` (what a person must judge).

    `training` are the places of the training rows in `table`, in an order of chance. Rows of several labels
    or boxes are not looked at.
    """
    wanted = [name for name in (_LEAKS, _SHORTCUTS) if findings.looks(name)]
    found: list[Shortcut] = []
    if wanted and task_columns.classes is None:
        found = _written_targets(table, task_columns, training)
    elif wanted and task_columns.classes == LABELS:
        sample = sample_of(table, task_columns, rows, training)
        found = [] if sample is None else [one for probe in PROBES for one in probe.probe(sample)]
    for name in wanted:
        chosen = [one for one in found if one.certain == (name == _LEAKS)]
        _note(name, chosen, len(set(rows.classes)), findings)


def _note(name: str, found: list[Shortcut], classes: int, findings: Findings) -> None:
    things = "thing tells" if len(found) == 1 else "things tell"
    note = f"{things} the class by themselves, found on training rows"
    if name == _LEAKS:
        note = f"{things} the label in what the model reads"
    examples = (one.said(classes) for one in sorted(found, key=lambda one: -one.accuracy))
    findings.add(name, len(found), note, examples, "remove it from the rows")


def sample_of(table: pa.Table, task_columns: TaskColumns, rows: Rows, training: list[int]) -> Sample | None:
    """The first training rows; None where there are too few, or any has several classes or none."""
    files = task_columns.inputs_of("image", "audio")
    chosen = training[: _MOST_FILES if files else _MOST_ROWS]
    if len(chosen) < _LEAST_ROWS or any(len(rows.classes[row]) != 1 for row in chosen):
        return None
    names = sorted({rows.classes[row][0] for row in chosen})
    numbers = {name: number for number, name in enumerate(names)}
    codes = np.array([numbers[rows.classes[row][0]] for row in chosen], np.int64)
    fit = np.array([position(rows.components[row], "probe") < 0.5 for row in chosen])
    return Sample(take_rows(table, chosen), task_columns, codes, tuple(names), fit)


def _written_targets(table: pa.Table, task_columns: TaskColumns, training: list[int]) -> list[Shortcut]:
    share, judged = share_written(take_rows(table, training[:_MOST_ROWS]), task_columns)
    if judged < _LEAST_ROWS or share < _LEAST_WRITTEN:
        return []
    return [Shortcut("the target itself is written in the text", (), share, 0.0, judged, certain=True)]
