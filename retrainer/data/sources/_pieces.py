"""Long recordings as several rows: pieces of one length, each a WAV file of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrainer.errors import UserError
from retrainer.formats.audio import decode_audio, encode_wav

if TYPE_CHECKING:
    import pyarrow as pa


def in_pieces(table: pa.Table, seconds: float) -> pa.Table:
    """Rows of `audio` → a row for each piece of `seconds`; what is left behind the last whole one is left
    out, unless the recording is shorter. Of a recording that cannot be read the row stays as it is.
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
    other = [name for name in table.column_names if name not in ("audio", "origin")]
    columns: dict[str, Any] = {"audio": encoded_array(audio), "origin": pa.array(origins, pa.string())}
    return pa.table(columns | {name: table[name].take(pa.array(rows)) for name in other})


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
