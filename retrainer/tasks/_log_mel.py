"""Log-mel spectrograms of a whole batch, as Whisper's feature extractor and librosa make them.

Legend: B rows of a batch, S samples, T frames, M mel bands, F frequencies of a spectrum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_QUIETEST = 1e-6  # added to a power before its logarithm: digital silence has none
_SILENT = 1e-20  # the same where the floor follows the row's loudest band, which may be silent too
_LOUD = 1e-2  # of a row's loudest frame: a frame of more power is speech, rather than what is around it


@dataclass(frozen=True)
class Spectrum:
    """How sound becomes a log-mel spectrogram.

    `normalise`: "row" gives each band of a row mean 0 and deviation 1, "loudness" all bands together;
    "speech" gives each band mean 0 over the row's loud frames, and all bands together deviation 1 over these:
    silence around a word, of which recordings have more or less, then moves nothing (cepstral mean
    normalisation over frames that an energy threshold finds); "whisper" is what Whisper was trained on
    (Radford et al. 2022), padded with silence to `pad_seconds`; "power" takes no logarithm, of a sound that
    is raised to `level_dbfs` where it is quieter (Resemblyzer's `normalize_volume`).
    """

    sampling_rate: int
    window: int  # samples of a Hann window, and of its Fourier transform
    hop: int  # samples from one window to the next
    mels: int
    low: float = 0.0  # Hz
    high: float = 0.0  # Hz; 0: half the sampling rate
    normalise: str = "row"
    pad_seconds: float = 0.0
    range_db: float = 0.0  # what lies further below a row's loudest band counts as so quiet; 0: no limit
    level_dbfs: float = 0.0  # of "power": decibels of the root mean square, 0 being that of full scale

    def frames(self, samples: Tensor) -> Tensor:
        """Samples [B] → frames that have sound [B]."""
        frames = samples // self.hop + 1
        return frames.clamp(max=self.padded // self.hop) if self.pad_seconds else frames

    @property
    def padded(self) -> int:
        """Samples that every row is filled up to, if it is."""
        return round(self.pad_seconds * self.sampling_rate)


def log_mel(
    waves: Tensor,
    lengths: Tensor,
    spectrum: Spectrum,
    warp: Tensor | None = None,
    gain: Tensor | None = None,
    background: Tensor | None = None,
) -> Tensor:
    """[B, S] and samples [B] → float32 [B, T, M]; frames behind a row's end are 0.

    A row's frames do not depend on the rows beside it. `warp` [B] stretches each row's frequencies, `gain`
    [B, M] multiplies the power of its bands, and `background` [B, T, M] is noise that is added to it, as a
    share of the row's loudest.
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
    if gain is not None:
        mel = mel * gain[:, None]
    if background is not None:
        mel = mel + background * mel.amax((1, 2), keepdim=True)
    if spectrum.normalise == "whisper":
        return _whisper_scale(mel)
    frames = spectrum.frames(lengths)
    if spectrum.normalise == "power":
        return _raised(mel, waves, lengths, spectrum.level_dbfs) * _there(mel, frames)
    bands = (mel + _floor(mel, spectrum.range_db)).log()
    if spectrum.normalise == "speech":
        return _normalise_speech(bands, frames, mel.sum(2))
    return _normalise(bands, frames, (1,) if spectrum.normalise == "row" else (1, 2))


def _floor(mel: Tensor, range_db: float) -> Tensor | float:
    """The power that is added before the logarithm."""
    if not range_db:
        return _QUIETEST
    return mel.amax((1, 2), keepdim=True) * 10 ** (-range_db / 10) + _SILENT


def _whisper_scale(mel: Tensor) -> Tensor:
    """The logarithm, cut 80 dB below a row's loudest, and scaled to about -1 to 1."""
    powers = mel.clamp(min=1e-10).log10()
    powers = torch.maximum(powers, powers.amax((1, 2), keepdim=True) - 8.0)
    return (powers + 4.0) / 4.0


def _raised(mel: Tensor, waves: Tensor, lengths: Tensor, level_dbfs: float) -> Tensor:
    """The power of sounds that are raised to a level, and never lowered; silence stays as it is."""
    power = waves.square().sum(1) / lengths.clamp(min=1)
    gain = (10 ** (level_dbfs / 10) / power.clamp(min=_SILENT)).clamp(min=1)
    return mel * torch.where(power > _SILENT, gain, 1.0)[:, None, None]


def _there(bands: Tensor, frames: Tensor) -> Tensor:
    """bool [B, T, 1]: a row's own frames."""
    return (torch.arange(bands.shape[1], device=bands.device) < frames[:, None]).unsqueeze(2)


def _normalise(bands: Tensor, frames: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Mean 0 and deviation 1 over a row's own frames, along `axes`; what lies behind them becomes 0."""
    there = _there(bands, frames)
    count = frames[:, None, None] * (bands.shape[2] if 2 in axes else 1)
    centred = (bands - (bands * there).sum(axes, keepdim=True) / count) * there
    deviation = (centred.square().sum(axes, keepdim=True) / count).sqrt()
    return centred / (deviation + 1e-3)


def _normalise_speech(bands: Tensor, frames: Tensor, power: Tensor) -> Tensor:
    """Each band mean 0, all bands together deviation 1, over a row's loud frames. `power` [B, T]."""
    there = torch.arange(bands.shape[1], device=bands.device) < frames[:, None]
    power = power * there
    loud = ((power >= _LOUD * power.amax(1, keepdim=True)) & there).unsqueeze(2)
    count = loud.sum(1, keepdim=True)
    centred = (bands - (bands * loud).sum(1, keepdim=True) / count) * there.unsqueeze(2)
    squares = (centred * loud).square().sum((1, 2), keepdim=True)
    deviation = (squares / (count * bands.shape[2])).sqrt()
    return centred / (deviation + 1e-2)


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
