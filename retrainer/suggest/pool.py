"""Unlabelled rows, chunk by chunk: those that can be read and are new, and what the model makes of them.

Legend: N rows that may be labelled, D feature width, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from retrainer.data.checks import unusable
from retrainer.data.fingerprint import source_module
from retrainer.data.images import look_at
from retrainer.data.perceptual_hashes import perceptual_hashes
from retrainer.data.splits import content_keys
from retrainer.data.tables import take_rows
from retrainer.data.task_columns import TaskColumns
from retrainer.errors import DataError
from retrainer.formats.columns import probability_matrix
from retrainer.formats.row_keys import RowKeys, short
from retrainer.known_rows import pictured_among, stand_among
from retrainer.settings import Source

if TYPE_CHECKING:
    from retrainer.predict import Predictor

KNOWN, NEAR, TWICE = (
    "already in train, validation or test",
    "nearly equal to such a row",
    "the same as a row above",
)
# Of what is known of a row beside its features: shown to whoever labels it.
_SHOWN = ("origin", "id", "text", "text_pair")


@dataclass(frozen=True)
class Pool:
    """`shown`: origin, id and texts of N rows; `features` float32 [N, D]; `probabilities` float32 [N, K];
    `left_out`: reason → (rows, origin of the first)."""

    shown: pa.Table
    features: np.ndarray
    probabilities: np.ndarray
    left_out: dict[str, tuple[int, str]]

    def take(self, rows: np.ndarray, reason: str) -> Pool:
        """The rows that are chosen, bool [N]; the others are left out for the reason."""
        gone = self.shown.filter(pa.array(~rows))
        left_out = dict(self.left_out)
        if len(gone):
            left_out[reason] = (len(gone), str(gone["origin"][0].as_py()))
        return Pool(
            self.shown.filter(pa.array(rows)), self.features[rows], self.probabilities[rows], left_out
        )


def unlabelled_source(source: Source, path: str, predictor: Predictor) -> Source:
    """How the recipe reads its data, for a file or folder without labels."""
    first, *further = predictor.task.input_columns
    inputs = predictor.task.input_columns
    columns = {first: inputs[first]} | {name: f"{inputs[name]}?" for name in further}
    kept = {name: getattr(source, name) for name in ("text", "text_pair", "image", "id")}
    kept |= {name: value for name, value in source.options.items() if name in inputs}
    folder = Path(path).is_dir() or path.lower().endswith(
        (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz")
    )
    kind = {"kind": "audio_folder"} if first == "audio" and folder else {}
    return Source.parse({"path": path, "columns": columns, **kept, **kind}, "source")


def read_pool(source: Source, predictor: Predictor, known: RowKeys) -> Pool:
    """Raises DataError where no row is left. Only one chunk's images or sounds are held at a time."""
    reading = _Reading(predictor, known)
    shown, features, probabilities = [], [], []
    for table in source_module(source).read(source):
        new = reading.usable(table)
        if len(new):
            shown.append(new.select([name for name in _SHOWN if name in new.column_names]))
            predicted, made = predictor.predict_and_features(new)
            features.append(made)
            probabilities.append(probability_matrix(predicted))
    if not shown:
        counts = "; ".join(f"{count:,} {reason}" for reason, (count, _) in reading.left_out.items())
        raise DataError(f"INPUT={source.path}: no row is left to label ({counts or 'it has no rows'})")
    table = pa.concat_tables(shown, promote_options="default")
    return Pool(table, np.concatenate(features), np.concatenate(probabilities), reading.left_out)


class _Reading:
    """Leaves out rows that cannot be read, that are known, and that came before; `left_out` as in `Pool`."""

    def __init__(self, predictor: Predictor, known: RowKeys) -> None:
        self.predictor, self.known = predictor, known
        self.left_out: dict[str, tuple[int, str]] = {}
        self._seen: set[bytes] = set()

    def usable(self, table: pa.Table) -> pa.Table:
        """The rows of one chunk that may be labelled."""
        inputs = self.predictor.task.input_columns
        columns = TaskColumns(tuple(name for name in inputs if name in table.column_names), (), inputs)
        table = self._without(table, _unreadable(table, columns))
        keys = content_keys(table, columns.inputs)
        of_inputs = {name: short(content_keys(table, [name])) for name in columns.inputs}
        rows = RowKeys(short(keys), of_inputs, perceptual_hashes(table, columns))
        is_known = stand_among(rows, self.known) | pictured_among(rows, self.known)
        reasons: list[str | None] = [KNOWN if one else None for one in is_known]
        for row, key in enumerate(keys):
            if reasons[row] is None and key in self._seen:
                reasons[row] = TWICE
            self._seen.add(key)
        return self._without(table, reasons)

    def _without(self, table: pa.Table, reasons: Sequence[str | None]) -> pa.Table:
        """The rows without a reason to leave them out; the others are counted."""
        for row, reason in enumerate(reasons):
            if reason is not None:
                count, first = self.left_out.get(reason, (0, str(table["origin"][row].as_py())))
                self.left_out[reason] = (count + 1, first)
        return take_rows(table, [row for row, reason in enumerate(reasons) if reason is None])


def _unreadable(table: pa.Table, columns: TaskColumns) -> list[str | None]:
    """Per row why it cannot be read; None where it can."""
    looks = {name: look_at(table[name]) for name in columns.inputs_of("image")}
    reasons = unusable(table, columns, False, looks)
    for name in columns.inputs_of("audio"):
        sounds = zip(table[name].to_pylist(), table["origin"].to_pylist(), strict=True)
        for row, (sound, origin) in enumerate(sounds):
            reasons[row] = reasons[row] or _broken_sound(sound["bytes"], origin)
    return reasons


def _broken_sound(data: bytes, origin: str) -> str | None:
    from retrainer.formats.audio import decode_audio

    try:
        decode_audio(data, origin)
    except DataError:
        return "broken sound"
    return None
