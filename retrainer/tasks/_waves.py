"""Sound files decoded once, to samples at one rate. Legend: N rows, B rows of a batch, S samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from retrainer.formats.audio import decode_audio
from retrainer.tasks._classes import row_name
from retrainer.tasks._device import send
from retrainer.tasks._storage import Parts

# A filter that is this many times as long as the slower rate's period, as in scipy.signal.resample_poly.
_HALF_PERIODS = 10
_KAISER_BETA = 5.0


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
    phases: np.ndarray = (np.arange(up) * down % up)[:, None]  # where between two samples the answer lies
    places = half + phases - np.arange(-reach, reach + 1) * up
    inside = (places >= 0) & (places <= 2 * half)
    return np.where(inside, filter_[np.where(inside, places, 0)], 0).astype(np.float32)
