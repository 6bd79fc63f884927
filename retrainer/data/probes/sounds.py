"""What a recording says of its class besides what is heard: its rate, length, loudness, offset, silence."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from retrainer.data.probes._rows import CONTENT, NO_CONTENT, Sample, Shortcut, binned, codes_of, judged
from retrainer.errors import UserError
from retrainer.formats.audio import decode_audio

_MOST_ROWS = 2048
# The beginning of a recording, in seconds.
_START = 0.02
_NAMES = (
    "the recording's length",
    "the recording's loudest sample",
    "the recording's mean (an offset)",
    "the loudness of its first 20 ms",
    "the bytes per second of its file",
)


def probe(rows: Sample) -> Iterator[Shortcut]:
    rows = rows.first(_MOST_ROWS)
    for name in rows.columns.inputs_of("audio"):
        sounds = [one["bytes"] if one else None for one in rows.table[name].to_pylist()]
        formats = codes_of([(sound or b"")[:4] for sound in sounds])
        measured = [_measured(sound) for sound in sounds]
        rates, values = codes_of([rate for rate, _ in measured]), np.array([each for _, each in measured])
        for what, codes in (("the recording's format", formats), ("the recording's sampling rate", rates)):
            if found := judged(rows, what, codes, NO_CONTENT):
                yield found
        for what, column in zip(_NAMES, values.T, strict=True):
            if found := judged(rows, what, binned(column, rows.fit), CONTENT):
                yield found


def _measured(sound: bytes | None) -> tuple[int, tuple[float, ...]]:
    """Samples a second, and the numbers of _NAMES; zeros for what cannot be decoded."""
    try:
        samples, rate = decode_audio(sound, "sound")
    except UserError:
        return 0, (0.0,) * len(_NAMES)
    start = samples[: max(1, int(_START * rate))]
    seconds = len(samples) / rate
    return rate, (
        seconds,
        float(np.abs(samples).max()),
        float(samples.mean()),
        float(np.abs(start).mean()),
        len(sound or b"") / seconds,
    )
