"""Long recordings as several rows: pieces of one length, each a WAV file of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from retrainer.errors import UserError
from retrainer.formats.audio import decode_audio, encode_wav
from retrainer.formats.files import canonical_json

if TYPE_CHECKING:
    import pyarrow as pa


def in_pieces(table: pa.Table, seconds: float, identified: bool) -> pa.Table:
    """Rows of `audio` → a row for each piece of `seconds`; what is left behind the last whole one is left
    out, unless the recording is shorter. Of a recording that cannot be read the row stays as it is.

    Pieces of one recording depend on each other: they are one group, and so share a split, unless the row
    has a group. Where the group is whom the task recognises (`identified`) they are one session.
    """
    import pyarrow as pa

    from retrainer.data.sources._columns import encoded_array

    audio, origins, rows = [], [], []
    for row, (value, origin) in enumerate(
        zip(table["audio"].to_pylist(), table["origin"].to_pylist(), strict=True)
    ):
        made = _pieces(value and value["bytes"], origin, seconds)
        audio += made
        origins += [origin if len(made) == 1 else f"{origin}, piece {n}" for n in range(1, len(made) + 1)]
        rows += [row] * len(made)
    table = _with_sessions(table) if identified else _with_groups(table)
    other = [name for name in table.column_names if name not in ("audio", "origin")]
    columns: dict[str, Any] = {"audio": encoded_array(audio), "origin": pa.array(origins, pa.string())}
    return pa.table(columns | {name: table[name].take(pa.array(rows)) for name in other})


def _column(table: pa.Table, name: str) -> list[Any]:
    return table[name].to_pylist() if name in table.column_names else [None] * len(table)


def _replaced(table: pa.Table, name: str, values: list[str]) -> pa.Table:
    import pyarrow as pa

    others = [other for other in table.column_names if other != name]
    return table.select(others).append_column(name, pa.array(values, pa.string()))


def _with_groups(table: pa.Table) -> pa.Table:
    origins = table["origin"].to_pylist()
    groups = [group or origin for group, origin in zip(_column(table, "group"), origins, strict=True)]
    return _replaced(table, "group", groups)


def _with_sessions(table: pa.Table) -> pa.Table:
    notes = []
    for note, origin in zip(_column(table, "metadata"), table["origin"].to_pylist(), strict=True):
        known = json.loads(note or "{}")
        notes.append(canonical_json(known | {"session": known.get("session") or origin}).decode())
    return _replaced(table, "metadata", notes)


def _pieces(data: bytes | None, origin: str, seconds: float) -> list[bytes | None]:
    try:
        samples, rate = decode_audio(data, origin)
    except UserError:  # preprocess leaves it out, with the reason
        return [data]
    length = max(1, round(seconds * rate))
    if len(samples) < 2 * length:
        return [data] if len(samples) <= length else [encode_wav(samples[:length], rate)]
    starts = range(0, len(samples) - length + 1, length)
    return [encode_wav(samples[start : start + length], rate) for start in starts]
