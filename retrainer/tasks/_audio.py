"""Sound as batches: augmentation is drawn for each row, and computed for the whole batch.

Legend: N rows, B rows of a batch, S samples, T frames, M mel bands.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from retrainer.tasks._log_mel import Spectrum, log_mel
from retrainer.tasks._waves import Waves

_FAINTEST_DB = 60.0  # below a row's loudest band: noise that is heard no more
_COLOUR_DB = 6.0  # of each of the three curves that a background's spectrum is made of
_FEWEST_FRAMES = 4  # of a network on samples: its first layers look at more than one frame's


@dataclass(frozen=True)
class Augmentation:
    """The largest change of each kind; every row draws its own, evenly between none and that."""

    speed: float = 0.0  # 0.1: played between 0.9 and 1.1 times as fast, pitch and all
    shift_seconds: float = 0.0  # silence before the sound, or so much cut from its start
    noise: float = 0.0  # of white noise: its share of the sound's root mean square
    vocal_tract: float = 0.0  # 0.1: frequencies times 0.9 to 1.1 (Jaitly & Hinton 2013)
    frequency_masks: int = 0  # bands of at most a fifth of all (SpecAugment, arXiv:1904.08779)
    time_masks: int = 0  # stretches of at most a fifth of the row
    equaliser: float = 0.0  # dB, of each of the three smooth curves that a row's bands are louder by
    silence_seconds: float = 0.0  # before the sound, and as much behind it; half the rows get none
    background_db: float = 0.0  # noise of a random spectrum, from so far to 60 dB below a row's loudest band
    crop_seconds: float = 0.0  # a random stretch of so much of the sound; 0: all of it


def augment_waves(
    waves: Tensor, lengths: Tensor, sampling_rate: int, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """[B, S] and [B] → the same, each row played at its own speed, shifted, and with noise of its own.

    Between samples it interpolates in a straight line.
    """
    if augmentation.crop_seconds:
        stretch = max(1, round(augmentation.crop_seconds * sampling_rate))
        waves, lengths = _crop(waves, lengths, stretch, generator)
    draws = torch.rand(len(waves), 3, generator=generator).to(waves.device)
    factor = 1 + augmentation.speed * (2 * draws[:, 0] - 1)
    shift = (augmentation.shift_seconds * sampling_rate * (2 * draws[:, 1] - 1)).round()
    # Never more than a quarter is lost.
    shift = torch.maximum(shift, -(lengths / factor / 4).floor())
    most = augmentation.silence_seconds * sampling_rate
    before, behind = _silence(len(waves), most, generator, waves.device)
    shift = shift + before
    longer = ((lengths / factor).floor() + shift + behind).long().clamp(min=1)
    at = (torch.arange(int(longer.max()), device=waves.device) - shift[:, None]) * factor[:, None]
    inside = (at >= 0) & (at <= lengths[:, None] - 1)
    below = at.clamp(min=0).floor().long().clamp(max=waves.shape[1] - 1)
    above = (below + 1).clamp(max=waves.shape[1] - 1)
    share = at - below
    moved = torch.where(inside, torch.lerp(waves.gather(1, below), waves.gather(1, above), share), 0.0)
    if augmentation.noise:
        moved = moved + _noise(moved, longer, augmentation.noise * draws[:, 2:], generator)
    return moved, longer


def _crop(waves: Tensor, lengths: Tensor, most: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """[B, S] and [B] → the same, of each row a stretch of at most so many samples that is drawn evenly."""
    draws = torch.rand(len(waves), generator=generator).to(waves.device)
    start = (draws * (lengths - most).clamp(min=0)).floor().long()
    kept = lengths.clamp(max=most)
    at = torch.arange(int(kept.max()) if len(kept) else 0, device=waves.device)
    places = (start[:, None] + at).clamp(max=waves.shape[1] - 1)
    return waves.gather(1, places) * (at < kept[:, None]), kept


def _silence(
    rows: int, most: float, generator: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Samples of silence [B] before and behind each row: none in half of the cases, else up to `most`."""
    if not most:
        return torch.zeros(2, rows, device=device).unbind()
    draws = torch.rand(2, rows, generator=generator).to(device)
    return (most * (2 * draws - 1).clamp(min=0)).round().unbind()


def _noise(waves: Tensor, lengths: Tensor, share: Tensor, generator: torch.Generator) -> Tensor:
    """White noise [B, S] of each row's `share` [B, 1] of its root mean square; none behind its end."""
    loudness = (waves.square().sum(1, keepdim=True) / lengths[:, None]).sqrt()
    noise = torch.randn(waves.shape, generator=generator).to(waves.device)
    return noise * _there(waves, lengths) * loudness * share


def _there(waves: Tensor, lengths: Tensor) -> Tensor:
    """bool [B, S]: where a row has samples."""
    return torch.arange(waves.shape[1], device=waves.device) < lengths[:, None]


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
            return self._samples(waves, lengths)
        spectrum = Spectrum(rate, **self.preprocessing["spectrum"])
        frames = spectrum.frames(lengths)
        if generator is None:
            return {"audio": log_mel(waves, lengths, spectrum), "lengths": frames}
        warp = _warp(len(rows), augmentation, generator).to(waves.device)
        gain = _gain(len(rows), spectrum.mels, augmentation.equaliser, generator).to(waves.device)
        background = _background(len(rows), int(frames.max()), spectrum.mels, augmentation, generator)
        bands = log_mel(
            waves,
            lengths,
            spectrum,
            warp if augmentation.vocal_tract else None,
            gain,
            None if background is None else background.to(waves.device),
        )
        return {"audio": mask(bands, frames, augmentation, generator), "lengths": frames}

    def _samples(self, waves: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Silence follows a sound that is too short for the first frames of a network."""
        if self.preprocessing["normalise"]:
            waves = _whiten(waves, lengths)
        fewest = _FEWEST_FRAMES * int(self.preprocessing["frame_samples"])
        waves = functional.pad(waves, (0, max(0, fewest - waves.shape[1])))
        return {"audio": waves, "lengths": lengths.clamp(min=fewest)}


def _warp(rows: int, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """[B]: by how much each row's frequencies are stretched."""
    return 1 + augmentation.vocal_tract * (2 * torch.rand(rows, generator=generator) - 1)


def _background(
    rows: int, frames: int, mels: int, augmentation: Augmentation, generator: torch.Generator
) -> Tensor | None:
    """[B, T, M]: powers of Gaussian noise, as shares of a row's loudest; each row has its own colour."""
    least = augmentation.background_db
    if not least:
        return None
    decibels = least + (_FAINTEST_DB - least) * torch.rand(rows, 1, 1, generator=generator)
    colour = _gain(rows, mels, _COLOUR_DB, generator)[:, None]
    powers = torch.empty(rows, frames, mels).exponential_(generator=generator)
    return 10 ** (-decibels / 10) * colour * powers


def _gain(rows: int, mels: int, most: float, generator: torch.Generator) -> Tensor:
    """[B, M]: by what each row's bands are multiplied, as by another microphone: three random cosines."""
    phase = torch.arange(mels) * (torch.pi / mels)
    curves = torch.stack([(phase * times).cos() for times in (1, 2, 3)])
    decibels = most * (2 * torch.rand(rows, 3, generator=generator) - 1) @ curves
    return 10 ** (decibels / 10)


def _whiten(sound: Tensor, lengths: Tensor) -> Tensor:
    """Each row to mean 0 and variance 1 over its own samples, as wav2vec 2.0 was trained on."""
    mean = sound.sum(1, keepdim=True) / lengths[:, None]
    centred = (sound - mean) * _there(sound, lengths)
    variance = centred.square().sum(1, keepdim=True) / lengths[:, None]
    return centred / (variance + 1e-7).sqrt()
