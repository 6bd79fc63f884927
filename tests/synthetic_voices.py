"""Sounds that resemble speech enough for what is compared of recordings: harmonics of a gliding pitch."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

RATE = 8000


def spoken(seed: int, seconds: float = 0.5, word: int = 0) -> np.ndarray:
    """float64 [samples], within -0.5 to 0.5. Of one `word` pitch and formants are about the same."""
    draw, of_word = np.random.default_rng(seed), np.random.default_rng((word, 7))
    count = int(seconds * RATE)
    glide = np.interp(np.arange(count), np.linspace(0, count, 5), draw.uniform(0.9, 1.1, 5))
    phase = np.cumsum(2 * np.pi * of_word.uniform(90, 200) * glide / RATE)
    formants, samples = of_word.uniform(300, 3000, 3), np.zeros(count)
    for harmonic in range(1, 20):
        middle = harmonic * 140.0
        loudness = sum(np.exp(-(((middle - one * draw.uniform(0.9, 1.1)) / 250) ** 2)) for one in formants)
        samples += (loudness + 0.02) * np.sin(harmonic * phase + draw.uniform(0, 6))
    samples *= np.hanning(count) ** 0.5
    samples += draw.normal(0, 0.02 * np.abs(samples).max(), count)
    return samples * 0.5 / np.abs(samples).max()


def saved(samples: np.ndarray, rate: int = RATE, **options: Any) -> bytes:
    """As a WAV file of 16 bits, unless soundfile's options say otherwise."""
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, **({"format": "WAV", "subtype": "PCM_16"} | options))
    return stream.getvalue()


def at_twice_the_rate(samples: np.ndarray) -> np.ndarray:
    spectrum = np.fft.rfft(samples)
    return 2 * np.fft.irfft(np.append(spectrum, np.zeros(len(samples) - len(spectrum) + 1)), 2 * len(samples))
