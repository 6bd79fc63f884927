"""What little effort gives on sound: mean log-mel spectra, compared with those of the training rows.

Legend: N rows, D numbers of a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch

from retrainer.tasks._ctc import plain
from retrainer.tasks._log_mel import Spectrum, log_mel
from retrainer.tasks._protocol import Baseline, Baselines
from retrainer.tasks._waves import encode_audio

if TYPE_CHECKING:
    from retrainer.settings import Evaluation

_SPECTRUM = Spectrum(sampling_rate=8_000, window=200, hop=80, mels=40, normalise="loudness")
_STRETCHES = 8  # a sound is parted into so many of equal length
_MAX_SECONDS = 3600.0
_ROWS_AT_ONCE = 64


def transcript_baselines(train: pa.Table, test: pa.Table, evaluation: Evaluation) -> Baselines:
    """The commonest transcript, and that of the nearest training row."""
    texts = train["target_text"].to_pylist()
    counts = Counter(plain(text) for text in texts)
    commonest = min(counts, key=lambda text: (-counts[text], text)) if counts else ""
    always = pa.table({"prediction": pa.array([commonest] * len(test), pa.string())})
    trivial = Baseline("commonest_text", f"always {commonest!r}", always, len(train))
    if not evaluation.baseline:
        return Baselines((trivial,), "evaluation.baseline is false")
    if not len(train):
        return Baselines((trivial,), "there are no training rows")
    closest = nearest(mean_spectra(train), mean_spectra(test))
    found = pa.table({"prediction": pa.array([texts[row] for row in closest], pa.string())})
    title = "the transcript of the most similar training sound"
    note = "similar by its mean spectrum"
    return Baselines((trivial, Baseline("nearest_sound", title, found, len(train), note)))


def mean_spectra(table: pa.Table) -> np.ndarray:
    """float32 [N, D]: log-mel bands, means of each eighth of a sound, and the logarithm of its length."""

    def one(bands: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        return torch.cat([_stretches(bands, frames).flatten(1), frames.log()[:, None]], 1)

    return _of_bands(table, _STRETCHES * _SPECTRUM.mels + 1, one)


def voice_spectra(table: pa.Table) -> np.ndarray:
    """float32 [N, 2 · bands]: the mean and the deviation of each log-mel band over a sound's frames."""

    def one(bands: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        count = frames[:, None]  # frames behind a row's end are 0
        mean = bands.sum(1) / count
        spread = (bands.square().sum(1) / count - mean.square()).clamp(min=0).sqrt()
        return torch.cat([mean, spread], 1)

    return _of_bands(table, 2 * _SPECTRUM.mels, one)


def _of_bands(
    table: pa.Table, width: int, one: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> np.ndarray:
    """float32 [N, width]: what `one` makes of log-mel bands [B, T, M] and frames of each row [B]."""
    waves = encode_audio(table, _SPECTRUM.sampling_rate, _MAX_SECONDS)
    spectra: np.ndarray = np.zeros((len(waves), width), np.float32)
    order = np.argsort(waves.lengths, kind="stable")  # so that little is padded
    for start in range(0, len(order), _ROWS_AT_ONCE):
        rows = order[start : start + _ROWS_AT_ONCE]
        samples, lengths = waves.batch(rows)
        bands, frames = log_mel(samples, lengths, _SPECTRUM), _SPECTRUM.frames(lengths)
        spectra[rows] = one(bands, frames).numpy()
    return spectra


def _stretches(bands: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """[B, T, M] → [B, _STRETCHES, M]: means of equal parts; a part has a frame at least."""
    at = torch.arange(bands.shape[1])
    edges = torch.arange(_STRETCHES + 1) * frames[:, None] // _STRETCHES
    low = edges[:, :-1].minimum(frames[:, None] - 1)
    high = edges[:, 1:].maximum(low + 1)
    inside = ((at >= low[:, :, None]) & (at < high[:, :, None])).float()
    return (inside @ bands) / inside.sum(2, keepdim=True)


def nearest(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """int64 [N]: the nearest training row by Euclid's distance, each number scaled by its deviation there."""
    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-6
    left, right = ((torch.from_numpy((rows - mean) / deviation)) for rows in (test, train))
    return torch.cat([torch.cdist(part, right).argmin(1) for part in left.split(512)]).numpy()
