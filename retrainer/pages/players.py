"""Sounds to listen to on a page, which needs no other file."""

from __future__ import annotations

import base64

from retrainer.pages.page import escape

_SECONDS = 6.0
_RATE = 8_000  # of samples a second: what a telephone has


def player(encoded: bytes, name: str) -> str:
    """A player of the sound's first seconds, in telephone quality: at most 130 kB of a page."""
    from retrainer.formats.audio import decode_audio, encode_wav
    from retrainer.tasks._waves import resample

    samples, rate = decode_audio(encoded, name)
    heard = resample(samples[: int(_SECONDS * rate)], rate, min(rate, _RATE)).clip(-1, 1)
    data = base64.b64encode(encode_wav(heard, min(rate, _RATE))).decode()
    about = f'controls preload="none" aria-label="{escape(name)}"'
    return f'<audio {about} src="data:audio/wav;base64,{data}"></audio>'
