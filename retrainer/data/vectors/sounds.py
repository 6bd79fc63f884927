"""Sounds as vectors: how loud each band of frequencies is, in each part of the recording.

The bands are equally wide in mel (S. Stevens, J. Volkmann, E. Newman, 1937); levels are compared with the
recording's own mean, so that its gain says nothing.

Legend: N sounds, T frames, F frequencies, B bands, P parts, D = B * P dimensions.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from retrainer.data.images import of_each_file
from retrainer.data.similar.spectra import Heard, heard

_BANDS, _PARTS = 32, 8
# Seconds of a frame; the next one begins after half of it.
_FRAME = 0.032
# Hertz: what a telephone carries, so that recordings of all rates are alike.
_LOW, _HIGH = 100.0, 3600.0
# Beside the loudest band and frame, energy of less than this share is silence.
_FLOOR = 1e-5
# Frames at either end whose energy is below this share of the loudest one's are no part of the recording.
_QUIET = 1e-3


def sound_vectors(sounds: pa.ChunkedArray) -> np.ndarray:
    """float32 [N, D], standardised, of encoded sounds; what cannot be decoded, or is silent, is level."""
    found = of_each_file(sounds, lambda encoded: _levels(heard(encoded)), None)
    silent: np.ndarray = np.zeros(_BANDS * _PARTS, np.float32)
    vectors = np.stack([silent if one is None else one for one in found])
    return (vectors - vectors.mean(axis=0)) / (vectors.std(axis=0) + 1e-2)


def _levels(sound: Heard | None) -> np.ndarray | None:
    """float32 [D]: decades above or below the recording's mean level."""
    if sound is None or not sound[0].any():
        return None
    energies = _energies(*sound)
    loud = np.flatnonzero(energies.sum(axis=1) > _QUIET * energies.sum(axis=1).max())
    spoken = energies[loud[0] : loud[-1] + 1]
    levels = np.log10(spoken + _FLOOR * spoken.max())
    edges = np.linspace(0, len(levels), _PARTS + 1)
    borders = zip(edges[:-1].astype(int), edges[1:].astype(int), strict=True)
    parts = [levels[low : max(low + 1, high)].mean(axis=0) for low, high in borders]
    found = np.concatenate(parts).astype(np.float32)
    return np.asarray(found - found.mean())


def _energies(samples: np.ndarray, rate: int) -> np.ndarray:
    """float32 [T, B]."""
    size = int(rate * _FRAME)
    padded = np.pad(samples, (0, max(0, size - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 2]
    power = np.abs(np.fft.rfft(frames * np.hanning(size))) ** 2
    return np.asarray(power @ _bands(power.shape[1], rate / size))


def _bands(frequencies: int, step: float) -> np.ndarray:
    """float64 [F, B]: triangles, of which each begins at the top of the one before; `step` in hertz."""
    tops = _hertz(np.linspace(_mel(_LOW), _mel(_HIGH), _BANDS + 2))
    at = step * np.arange(frequencies)[:, None]
    rising = (at - tops[:-2]) / (tops[1:-1] - tops[:-2])
    falling = (tops[2:] - at) / (tops[2:] - tops[1:-1])
    return np.asarray(np.clip(np.minimum(rising, falling), 0, None))


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def _hertz(mel: np.ndarray) -> np.ndarray:
    return np.asarray(700 * (10 ** (mel / 2595) - 1))
