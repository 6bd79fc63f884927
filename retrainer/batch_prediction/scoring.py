"""One window of rows → their predictions, and for each row that has none the reason why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.batch_prediction.answers import answer_columns
from retrainer.batch_prediction.columns import InputColumns
from retrainer.batch_prediction.windows import Window
from retrainer.data.sources._values import MAX_IMAGE_BYTES, Unfit, converter
from retrainer.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from retrainer.predict import Predictor


@dataclass(frozen=True)
class Scored:
    """`rows`: places in the window of those that are predicted; `answers`: a row for each of them, None where
    there is none. `rejected`: place → why there is no prediction."""

    rows: list[int]
    answers: pa.Table | None
    rejected: dict[int, str]


@dataclass(frozen=True)
class Scorer:
    """Predicts windows of rows that have these columns. `version` and `top_k`: see `answer_columns`."""

    predictor: Predictor
    columns: InputColumns
    version: str
    top_k: int = 0

    def score(self, window: Window) -> Scored:
        """Raises no error for a row that is wrong: see `Scored.rejected`."""
        rejected = {row: problem for row, problem in enumerate(window.problems) if problem}
        converted = self._converted(window, rejected)
        rows = [row for row in range(len(window)) if row not in rejected]
        table = self._table(window, converted, rows)
        rows, table = self._without(rows, table, _missing(table, self.columns), rejected)
        if not rows:
            return Scored([], None, rejected)
        try:
            predictions = self.predictor.predict(table)
        except DataError:
            # One of them at least cannot be decoded; which ones is only looked for now, for it takes as long.
            problems = [self._problem(table, row) for row in range(len(rows))]
            if not any(problems):
                raise
            rows, table = self._without(rows, table, problems, rejected)
            if not rows:
                return Scored([], None, rejected)
            predictions = self.predictor.predict(table)
        origins = [window.origins[row] for row in rows]
        return Scored(rows, answer_columns(predictions, origins, self.version, self.top_k), rejected)

    def _converted(self, window: Window, rejected: dict[int, str]) -> dict[str, list[Any]]:
        """Of each column that the model reads, the values in its type; notes the rows that have none."""
        converted = {}
        for ours, values in window.values.items():
            convert = _reader_of_files(converter(self.columns.words[ours], window.folder, ""))
            converted[ours] = [None] * len(window)
            for row, value in enumerate(values):
                try:
                    if row not in rejected:
                        converted[ours][row] = convert(value)
                except Unfit as error:
                    file = isinstance(value, Path)
                    rejected[row] = str(error) if file else f"column '{self.columns.names[ours]}' {error}"
        return converted

    def _table(self, window: Window, converted: dict[str, list[Any]], rows: list[int]) -> pa.Table:
        import pyarrow as pa

        from retrainer.data.sources._columns import encoded_array
        from retrainer.formats.columns import ENCODED, TYPES

        arrays: dict[str, pa.Array] = {}
        for ours, values in converted.items():
            chosen, kind = [values[row] for row in rows], TYPES[self.columns.words[ours]]
            arrays[ours] = encoded_array(chosen) if kind == ENCODED else pa.array(chosen, kind)
        arrays["origin"] = pa.array([window.origins[row] for row in rows], pa.string())
        return pa.table(arrays)

    def _problem(self, table: pa.Table, row: int) -> str:
        """Why the model cannot read this row of the table; empty where it can."""
        body = self.predictor.network.description
        try:
            self.predictor.task.encode(table.slice(row, 1), body.preprocessing, body.assets)
        except DataError as error:
            return str(error).removeprefix(f"{table['origin'][row].as_py()}: ")
        return ""

    def _without(
        self, rows: list[int], table: pa.Table, problems: list[str], rejected: dict[int, str]
    ) -> tuple[list[int], pa.Table]:
        """The rows without a problem; the others are noted with it."""
        if not any(problems):
            return rows, table
        from retrainer.data.tables import take_rows

        rejected.update({rows[at]: problem for at, problem in enumerate(problems) if problem})
        sound = [at for at, problem in enumerate(problems) if not problem]
        return [rows[at] for at in sound], take_rows(table, sound)


def _missing(table: pa.Table, columns: InputColumns) -> list[str]:
    """Per row which input it lacks; empty where it has them all."""
    from retrainer.data.checks import unusable
    from retrainer.data.task_columns import TaskColumns

    names = tuple(name for name in columns.words if name in table.column_names)
    reasons = unusable(table, TaskColumns(names, (), columns.words), False, {})
    return [reason or "" for reason in reasons]


def _reader_of_files(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The conversion, which also takes the path of a row's own file."""

    def content(value: Any) -> Any:
        return convert(_read(value) if isinstance(value, Path) else value)

    return content


def _read(file: Path) -> bytes:
    try:
        if file.is_symlink() and not file.exists():
            raise Unfit("is a link that leads nowhere")
        if file.stat().st_size > MAX_IMAGE_BYTES:
            raise Unfit(f"the file is larger than {MAX_IMAGE_BYTES // 2**20} MiB")
        return file.read_bytes()
    except OSError as error:
        raise Unfit(f"the file cannot be read ({error.strerror})") from None
