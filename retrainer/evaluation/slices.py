"""The gate's metric by parts of the test rows: where a good mean hides a bad part.

A slice is CLASS, one of the task's own (`Task.slices`), one of COMMON, or a name inside the rows' `metadata`
(a column of JSON objects).
Legend: N rows.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from retrainer.errors import SettingError, nearest
from retrainer.formats.columns import class_names
from retrainer.gate.evidence import SliceFigure
from retrainer.gate.intervals import figure
from retrainer.gate.measured import Measured
from retrainer.settings import Evaluation, Gate

if TYPE_CHECKING:
    import pyarrow as pa

    from retrainer.tasks._protocol import Judged, Task

CLASS = "class"
MOST_VALUES = 50
OTHERS, NOTHING = "(others)", "(none)"
_MONTH = re.compile(r"\d{4}-\d{2}")

# The values that each row has: one, but of `class` as many as it has classes.
Values = Sequence[Sequence[str]]
# Test rows → each row's value.
Slice = Callable[["pa.Table"], list[str]]
# Slice → its values → the numbers of the rows that have it.
Rows = Mapping[str, Mapping[str, np.ndarray]]


def slice_rows(judged: Judged, gate: Gate) -> Rows:
    """Of every slice that `evaluation.slices`, `gate.slice_floors` and `gate.accept_slices` name, its
    values, the largest first.

    Values beyond the MOST_VALUES most frequent are one, OTHERS, which comes last. Raises UserError for a
    slice that these rows do not have.
    """
    named = {"evaluation.slices": judged.evaluation.slices}
    named |= {"gate.slice_floors": tuple(gate.slice_floors), "gate.accept_slices": tuple(gate.accept_slices)}
    found: dict[str, Mapping[str, np.ndarray]] = {}
    for setting, names in named.items():
        for name in names:
            if name not in found:
                found[name] = _rows(_values(name, setting, judged))
    return found


def slice_figures(rows: Rows, measured: Measured, settings: Evaluation) -> tuple[SliceFigure, ...]:
    return tuple(
        _figure(by, name, measured.only(at), settings)
        for by, values in rows.items()
        for name, at in values.items()
    )


def own_slices(task: Task) -> dict[str, Slice]:
    """Those that the task makes of its inputs; none where it has no `slices`."""
    return dict(task.slices()) if hasattr(task, "slices") else {}


def _rows(values: Values) -> dict[str, np.ndarray]:
    rows: dict[str, list[int]] = defaultdict(list)
    for row, own in enumerate(values):
        for value in own:
            rows[value].append(row)
    order = sorted(rows, key=lambda value: (-len(rows[value]), value))
    shown = {value: rows[value] for value in order[:MOST_VALUES]}
    if others := sorted({row for value in order[MOST_VALUES:] for row in rows[value]}):
        shown[OTHERS] = others
    return {value: np.array(at) for value, at in shown.items()}


def _figure(by: str, name: str, measured: Measured, settings: Evaluation) -> SliceFigure:
    found = figure(measured, settings)
    return SliceFigure(by, name, measured.rows, found["value"], found["low"], found["high"])


def _values(name: str, setting: str, judged: Judged) -> Values:
    """Raises UserError that names the setting and the slices there are."""
    test = judged.test
    classes = class_names(test, judged.predictor.task.target_columns)
    if name == CLASS and classes is not None:
        return [names or [NOTHING] for names in classes]
    common = {key: make for key, make in COMMON.items() if key in test.column_names}
    made = own_slices(judged.predictor.task) | common
    if name in made:
        return [[value] for value in made[name](test)]
    metadata = [json.loads(text or "{}") for text in _column(test, "metadata")]
    known = {key for row in metadata for key in row}
    if name in known:
        return [[_said(row.get(name))] for row in metadata]
    options = [*([CLASS] if classes is not None else []), *made, *sorted(known)]
    raise SettingError(
        f"{setting}: the test rows have no slice {name!r}{nearest(name, options)}; they have"
        f" {', '.join(options)} (name further columns in source.metadata)"
    )


def _column(test: pa.Table, name: str) -> list[str | None]:
    return list(test[name].to_pylist()) if name in test.column_names else []


def _said(value: object) -> str:
    if value is None or value == "":
        return NOTHING
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _months(test: pa.Table) -> list[str]:
    found = [_MONTH.match(text or "") for text in _column(test, "time")]
    return [month.group() if month else NOTHING for month in found]


def _groups(test: pa.Table) -> list[str]:
    return [_said(group) for group in _column(test, "group")]


# Name, which is that of the column it needs → what makes each row's value of it.
COMMON: Mapping[str, Slice] = {"time": _months, "group": _groups}
