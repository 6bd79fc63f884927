"""Sound decoded once; augmentation and spectra are computed for a whole batch.

Legend: N rows, B rows of a batch, S samples, T frames, M mel bands, F frequencies of a spectrum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional

from retrainer.formats.audio import decode_audio
from retrainer.tasks._classes import row_name
from retrainer.tasks._device import send
from retrainer.tasks._storage import Parts

# A filter that is this many times as long as the slower rate's period, as in scipy.signal.resample_poly.
_HALF_PERIODS = 10
_KAISER_BETA = 5.0
_QUIETEST = 1e-6  # added to a power before its logarithm: digital silence has none


@dataclass(frozen=True)
class Spectrum:
    """How sound becomes a log-mel spectrogram.

    `normalise`: "row" gives each band of a row mean 0 and deviation 1, "loudness" all bands together;
    "whisper" is what Whisper was trained on (Radford et al. 2022), padded with silence to `pad_seconds`.
    """

    sampling_rate: int
    window: int  # samples of a Hann window, and of its Fourier transform
    hop: int  # samples from one window to the next
    mels: int
    low: float = 0.0  # Hz
    high: float = 0.0  # Hz; 0: half the sampling rate
    normalise: str = "row"
    pad_seconds: float = 0.0

    def frames(self, samples: Tensor) -> Tensor:
        """Samples [B] → frames that have sound [B]."""
        frames = samples // self.hop + 1
        return frames.clamp(max=self.padded // self.hop) if self.pad_seconds else frames

    @property
    def padded(self) -> int:
        """Samples that every row is filled up to, if it is."""
        return round(self.pad_seconds * self.sampling_rate)


@dataclass(frozen=True)
class Augmentation:
    """The largest change of each kind; every row draws its own, evenly between none and that."""

    speed: float = 0.0  # 0.1: played between 0.9 and 1.1 times as fast, pitch and all
    shift_seconds: float = 0.0  # silence before the sound, or so much cut from its start
    noise: float = 0.0  # of white noise: its share of the sound's root mean square
    vocal_tract: float = 0.0  # 0.1: frequencies times 0.9 to 1.1 (Jaitly & Hinton 2013)
    frequency_masks: int = 0  # bands of at most a fifth of all (SpecAugment, arXiv:1904.08779)
    time_masks: int = 0  # stretches of at most a fifth of the row


@dataclass(frozen=True)
class Waves:
    """Ragged rows of sound at one rate: row i holds `samples[offsets[i]:offsets[i + 1]]`."""

    samples: np.ndarray  # float32 [all samples + 1]
    offsets: np.ndarray  # int64 [N + 1]
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        return int(self.samples.nbytes)

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def to(self, device: torch.device) -> Waves:
        return replace(self, device=device)

    def batch(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """float32 [B, S], padded with silence to the longest, and int64 [B] samples, on the device."""
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        columns = np.arange(int(lengths.max(initial=1)))
        mask = columns < lengths[:, None]
        waves = np.where(mask, self.samples[np.where(mask, starts[:, None] + columns, 0)], np.float32(0))
        return send(torch.from_numpy(waves), self.device), send(torch.from_numpy(lengths), self.device)


def encode_audio(table: pa.Table, sampling_rate: int, max_seconds: float) -> Waves:
    """Column `audio` (encoded files) → samples at one rate. Raises UserError naming a row it cannot read."""
    parts, lengths = Parts(), [0]
    column = table["audio"]
    for row in range(len(table)):
        file = column[row].as_py()
        samples, rate = decode_audio(file and file["bytes"], row_name(table, row), max_seconds)
        samples = resample(samples, rate, sampling_rate)
        parts.append(samples)
        lengths.append(len(samples))
    parts.append(np.zeros(1, np.float32))  # padding reads position 0, even where there are no rows
    offsets = np.cumsum(lengths, dtype=np.int64)
    return Waves(parts.array(np.float32, (int(offsets[-1]) + 1,)), offsets)


def resample(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """float32 [S] at `rate` → [ceil(S · wanted / rate)] at `wanted`, as scipy.signal.resample_poly does.

    One dot product a sample with a sinc in a Kaiser window, whose phases repeat after `up` samples.
    """
    if rate == wanted:
        return samples
    ratio = Fraction(wanted, rate)
    up, down = ratio.numerator, ratio.denominator
    count = -(-len(samples) * up // down)
    filters = _filters(up, down)
    taps = filters.shape[1]
    # The k-th answer looks at `taps` samples around sample k · down / up.
    before, last = taps // 2, (count - 1) * down // up
    padded = np.pad(samples, (before, max(0, last + taps - before - len(samples))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, taps)
    answer: np.ndarray = np.empty(count, np.float32)
    for phase in range(min(up, count)):
        start = phase * down // up
        answer[phase::up] = windows[start::down][: len(answer[phase::up])] @ filters[phase]
    return answer


@lru_cache(8)
def _filters(up: int, down: int) -> np.ndarray:
    """float32 [up, taps]: the filter of each phase."""
    half = _HALF_PERIODS * max(up, down)
    at = np.arange(-half, half + 1)
    filter_ = np.sinc(at / max(up, down)) * np.kaiser(2 * half + 1, _KAISER_BETA)
    filter_ *= up / filter_.sum()
    reach = half // up + 1
    phases = (np.arange(up) * down % up)[:, None]  # where between two samples the answer lies
    places = half + phases - np.arange(-reach, reach + 1) * up
    inside = (places >= 0) & (places <= 2 * half)
    return np.where(inside, filter_[np.where(inside, places, 0)], 0).astype(np.float32)


def augment_waves(
    waves: Tensor, lengths: Tensor, sampling_rate: int, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """[B, S] and [B] → the same, each row played at its own speed, shifted, and with noise of its own.

    Between samples it interpolates in a straight line.
    """
    draws = torch.rand(len(waves), 3, generator=generator).to(waves.device)
    factor = 1 + augmentation.speed * (2 * draws[:, 0] - 1)
    shift = (augmentation.shift_seconds * sampling_rate * (2 * draws[:, 1] - 1)).round()
    # Never more than a quarter is lost.
    shift = torch.maximum(shift, -(lengths / factor / 4).floor())
    longer = ((lengths / factor).floor() + shift).long().clamp(min=1)
    at = (torch.arange(int(longer.max()), device=waves.device) - shift[:, None]) * factor[:, None]
    inside = (at >= 0) & (at <= lengths[:, None] - 1)
    below = at.clamp(min=0).floor().long().clamp(max=waves.shape[1] - 1)
    above = (below + 1).clamp(max=waves.shape[1] - 1)
    share = at - below
    moved = torch.where(inside, torch.lerp(waves.gather(1, below), waves.gather(1, above), share), 0.0)
    if augmentation.noise:
        loudness = (moved.square().sum(1, keepdim=True) / longer[:, None]).sqrt()
        noise = torch.randn(moved.shape, generator=generator).to(waves.device)
        there = torch.arange(moved.shape[1], device=waves.device) < longer[:, None]
        moved = moved + noise * there * loudness * augmentation.noise * draws[:, 2:]
    return moved, longer


def log_mel(waves: Tensor, lengths: Tensor, spectrum: Spectrum, warp: Tensor | None = None) -> Tensor:
    """[B, S] and samples [B] → float32 [B, T, M]; frames behind a row's end are 0.

    A row's frames do not depend on the rows beside it. `warp` [B] stretches each row's frequencies.
    """
    longest = spectrum.padded or waves.shape[1]
    count = longest // spectrum.hop + (0 if spectrum.padded else 1)
    if not len(waves):
        return waves.new_zeros(0, count, spectrum.mels)
    # What the last window sees behind the end is silence, also in the longest row.
    silence = longest - waves.shape[1] if spectrum.padded else spectrum.window
    padded = functional.pad(waves, (0, silence))
    window = torch.hann_window(spectrum.window, device=waves.device)
    transform = torch.stft(padded, spectrum.window, spectrum.hop, window=window, return_complex=True)
    power = transform[:, :, :count].abs().square().transpose(1, 2)  # [B, T, F]
    if warp is not None:
        power = _stretch(power, warp)
    mel = power @ filter_bank(spectrum).to(waves.device)
    if spectrum.normalise == "whisper":
        return _whisper_scale(mel)
    axes = (1,) if spectrum.normalise == "row" else (1, 2)
    return _normalise((mel + _QUIETEST).log(), spectrum.frames(lengths), axes)


def _whisper_scale(mel: Tensor) -> Tensor:
    """The logarithm, cut 80 dB below a row's loudest, and scaled to about -1 to 1."""
    powers = mel.clamp(min=1e-10).log10()
    powers = torch.maximum(powers, powers.amax((1, 2), keepdim=True) - 8.0)
    return (powers + 4.0) / 4.0


def _normalise(bands: Tensor, frames: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Mean 0 and deviation 1 over a row's own frames, along `axes`; what lies behind them becomes 0."""
    there = (torch.arange(bands.shape[1], device=bands.device) < frames[:, None]).unsqueeze(2)
    count = frames[:, None, None] * (bands.shape[2] if 2 in axes else 1)
    centred = (bands - (bands * there).sum(axes, keepdim=True) / count) * there
    deviation = (centred.square().sum(axes, keepdim=True) / count).sqrt()
    return centred / (deviation + 1e-3)


def _stretch(power: Tensor, warp: Tensor) -> Tensor:
    """[B, T, F] → the same: what was at frequency f is at f · warp, in a straight line between two."""
    last = power.shape[2] - 1
    at = (torch.arange(last + 1, device=power.device) / warp[:, None]).clamp(max=last)
    below = at.floor().long()
    above = (below + 1).clamp(max=last)
    share = (at - below)[:, None].to(power.dtype)
    pick = [index[:, None].expand_as(power) for index in (below, above)]
    return torch.lerp(power.gather(2, pick[0]), power.gather(2, pick[1]), share)


@lru_cache(8)
def filter_bank(spectrum: Spectrum) -> Tensor:
    """float32 [F, M]: triangles of equal area, evenly spaced on Slaney's mel scale, as in librosa."""
    high = spectrum.high or spectrum.sampling_rate / 2
    edges = _hertz(np.linspace(_mel(spectrum.low), _mel(high), spectrum.mels + 2))
    frequencies = np.linspace(0, spectrum.sampling_rate / 2, spectrum.window // 2 + 1)[:, None]
    rising = (frequencies - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - frequencies) / np.diff(edges)[1:]
    triangles = np.minimum(rising, falling).clip(min=0) * 2 / (edges[2:] - edges[:-2])
    return torch.from_numpy(triangles.astype(np.float32))


# Slaney's scale: in proportion to the frequency up to 1000 Hz, 15 mel, from there to its logarithm.
_KNEE_HERTZ, _KNEE_MEL, _STEP = 1000.0, 15.0, math.log(6.4) / 27


def _mel(hertz: float) -> float:
    if hertz < _KNEE_HERTZ:
        return hertz * _KNEE_MEL / _KNEE_HERTZ
    return _KNEE_MEL + math.log(hertz / _KNEE_HERTZ) / _STEP


def _hertz(mel: np.ndarray) -> np.ndarray:
    line = mel * _KNEE_HERTZ / _KNEE_MEL
    return np.where(mel < _KNEE_MEL, line, _KNEE_HERTZ * np.exp(_STEP * (mel - _KNEE_MEL)))


def mask(bands: Tensor, frames: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """[B, T, M] → the same with bands and stretches of each row at 0, its mean (SpecAugment)."""
    count = augmentation.frequency_masks + augmentation.time_masks
    draws = torch.rand(len(bands), count, 2, generator=generator).to(bands.device)
    for place in range(count):
        in_time = place >= augmentation.frequency_masks
        axis = 1 if in_time else 2
        size = frames if in_time else torch.full_like(frames, bands.shape[2])
        width = draws[:, place, 0] * size / 5
        start = draws[:, place, 1] * (size - width)
        at = torch.arange(bands.shape[axis], device=bands.device)
        hidden = (at >= start[:, None]) & (at < (start + width)[:, None])
        bands = bands.masked_fill(hidden[:, :, None] if in_time else hidden[:, None], 0.0)
    return bands


@dataclass(frozen=True)
class Sound:
    """Waves, and how a body hears them."""

    waves: Waves
    preprocessing: dict[str, Any]

    def __len__(self) -> int:
        return len(self.waves)

    @property
    def nbytes(self) -> int:
        return self.waves.nbytes

    def to(self, device: torch.device) -> Sound:
        return replace(self, waves=self.waves.to(device))

    def batch(
        self, rows: np.ndarray, augmentation: Augmentation, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """`audio`, float32 [B, T, M] or samples [B, S], and `lengths` of its axis 1, int64 [B].

        With a generator every row gets its own augmentation.
        """
        waves, lengths = self.waves.batch(rows)
        rate = int(self.preprocessing["sampling_rate"])
        if generator is not None:
            waves, lengths = augment_waves(waves, lengths, rate, augmentation, generator)
        if self.preprocessing["input"] == "samples":
            heard = _whiten(waves, lengths) if self.preprocessing["normalise"] else waves
            return {"audio": heard, "lengths": lengths}
        spectrum = Spectrum(rate, **self.preprocessing["spectrum"])
        frames = spectrum.frames(lengths)
        if generator is None:
            return {"audio": log_mel(waves, lengths, spectrum), "lengths": frames}
        warp = _warp(len(rows), augmentation, generator).to(waves.device)
        bands = log_mel(waves, lengths, spectrum, warp if augmentation.vocal_tract else None)
        return {"audio": mask(bands, frames, augmentation, generator), "lengths": frames}


def _warp(rows: int, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """[B]: by how much each row's frequencies are stretched."""
    return 1 + augmentation.vocal_tract * (2 * torch.rand(rows, generator=generator) - 1)


def _whiten(sound: Tensor, lengths: Tensor) -> Tensor:
    """Each row to mean 0 and variance 1 over its own samples, as wav2vec 2.0 was trained on."""
    there = torch.arange(sound.shape[1], device=sound.device) < lengths[:, None]
    mean = sound.sum(1, keepdim=True) / lengths[:, None]
    centred = (sound - mean) * there
    variance = centred.square().sum(1, keepdim=True) / lengths[:, None]
    return centred / (variance + 1e-7).sqrt()
