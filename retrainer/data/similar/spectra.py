"""What is compared of sounds: the energy of their frequencies, which a copy keeps.

A recording that is saved again may be louder, have another format, rate or offset, and some more silence at
its ends. The energies of the whole recording depend neither on when it begins nor on the silence around it;
which of two neighbouring frequencies is the stronger one does not depend on the gain either. (Signs of
differences of energies: J. Haitsma, T. Kalker: A highly robust audio fingerprinting system, ISMIR 2002.)

Legend: N sounds, S samples, F frequencies, W words of a hash.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from retrainer.data.images import of_each_file
from retrainer.errors import DataError
from retrainer.formats.audio import decode_audio

# Of a longer recording the beginning is looked at.
SECONDS = 8.0
# Hertz: what every telephone carries. Offsets, hum, and what lossy formats leave out lie outside.
_LOW, _HIGH = 100.0, 3400.0
BITS = 256
_WORDS = BITS // 64
# A bit compares two neighbouring windows, each so many steps of frequency wide.
_WINDOW = 4
_STEP = (_HIGH - _LOW) / (BITS + 2 * _WINDOW - 1)
# A difference below this share of all energy is rounding, or silence.
_LEAST_SHARE = 1e-6
# Of the highest frequency that a rate can carry, the part that filters leave alone.
_PASSED = 0.9
# Amplitudes are raised to this power before two sounds are compared: the loudest vowel is not to decide
# alone. Beside the strongest frequency, weaker ones than this share are noise.
_POWER, _FLOOR = 0.5, 1e-3

Heard = tuple[np.ndarray, int]  # float32 [S] and samples a second


def sound_hashes(sounds: pa.ChunkedArray) -> np.ndarray:
    """uint64 [N, W] of encoded sounds; zeros where one cannot be decoded or is silent.

    Raises SettingError where the package that decodes sounds is missing.
    """
    found = of_each_file(sounds, lambda encoded: _hash(heard(encoded)), None)
    silent: np.ndarray = np.zeros(_WORDS, np.uint64)
    return np.array([silent if one is None else one for one in found], np.uint64).reshape(-1, _WORDS)


def heard(encoded: pa.Buffer | bytes) -> Heard | None:
    """The first SECONDS of an encoded sound, without its offset; None where it cannot be decoded."""
    try:
        samples, rate = decode_audio(bytes(encoded), "sound", first_seconds=SECONDS)
    except DataError:
        return None
    return samples - samples.mean(), rate


def _hash(sound: Heard | None) -> np.ndarray | None:
    """uint64 [W]: bit i says whether frequencies are stronger just above its border than just below."""
    if sound is None:
        return None
    samples, rate = sound
    seconds = _power_of_two(max(1.0, len(samples) / rate))
    energies = np.abs(np.fft.rfft(samples, int(rate * seconds))) ** 2
    below = np.concatenate([[0.0], np.cumsum(energies)])
    edges = _LOW + _STEP * np.arange(BITS + 2 * _WINDOW)
    sums = below[np.minimum(np.rint(edges * seconds).astype(int), len(energies))]
    windows = sums[_WINDOW:] - sums[:-_WINDOW]
    bits = windows[_WINDOW:] - windows[:-_WINDOW] > _LEAST_SHARE * below[-1]
    return np.packbits(bits, bitorder="little").view("<u8").astype(np.uint64)


def similarity(one: Heard, other: Heard) -> float:
    """Correlation of two sounds, 0 to 1, where one lies on the other best, whatever their gain and polarity.

    Their spectra are flattened a little (between a plain and a phase correlation: C. Knapp, G. Carter, IEEE
    TASSP 24, 1976), so that two vowels of one pitch are not taken for one recording.
    """
    longest = max(len(samples) / rate for samples, rate in (one, other))
    seconds = 2 * _power_of_two(longest)  # none of them meets its own end
    high = min(_HIGH, *(_PASSED * rate / 2 for _, rate in (one, other)))
    spectra = [_flattened(samples, rate, seconds, high) for samples, rate in (one, other)]
    together = np.fft.irfft(spectra[0] * spectra[1].conj(), 2 * (len(spectra[0]) - 1))
    return float(np.abs(together).max()) * (len(spectra[0]) - 1)


def _flattened(samples: np.ndarray, rate: int, seconds: float, high: float) -> np.ndarray:
    """complex [F] up to `high`, of length 1; zeros for silence."""
    spectrum = np.fft.rfft(samples, int(rate * seconds))[: int(high * seconds) + 1]
    spectrum[: int(_LOW * seconds)] = 0
    size = np.abs(spectrum)
    spectrum *= (size + _FLOOR * size.max() + 1e-30) ** (_POWER - 1)
    return np.asarray(spectrum / max(1e-30, float(np.linalg.norm(spectrum))))


def _power_of_two(seconds: float) -> float:
    """The least power of two that is as long: its spectrum is quickly calculated at the usual rates."""
    return float(2.0 ** np.ceil(np.log2(seconds)))
