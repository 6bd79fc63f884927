"""Audio classification: one sound → one class, such as a spoken word, or several. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from retrainer.settings import Task
from retrainer.tasks._classes import Classification
from retrainer.tasks._sound import SoundOptions

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from torch import Tensor

    from retrainer.tasks._audio import Sound


class Options(SoundOptions):
    """Further keys of `task:`."""


def make(task: Task, labels: tuple[str, ...]) -> AudioClassification:
    """The task for these classes. Raises UserError for an unknown key of `task:`."""
    return AudioClassification(Options.parse(task.options, "task"), labels, task.multi_label)


class AudioClassification(Classification):
    """Reads `audio`, a sound file."""

    input_columns: Mapping[str, str] = {"audio": "audio"}

    def __init__(self, options: Options, labels: tuple[str, ...], multi_label: bool) -> None:
        super().__init__(labels, multi_label)
        self.options = options

    def input_spec(self) -> dict[str, Any]:
        return self.options.input_spec() | {"frames": False}

    def encode(self, table: pa.Table, preprocessing: dict[str, Any], assets: dict[str, bytes]) -> Sound:  # noqa: ARG002
        """Decodes every sound once."""
        from retrainer.tasks._audio import Sound
        from retrainer.tasks._waves import encode_audio

        rate, most = int(preprocessing["sampling_rate"]), float(preprocessing["max_seconds"])
        return Sound(encode_audio(table, rate, most), preprocessing)

    def batch(self, encoded: Sound, rows: np.ndarray, generator: torch.Generator | None) -> dict[str, Tensor]:
        """`audio` and `lengths`; with a generator each sound gets its own augmentation."""
        return encoded.batch(rows, self.options.augmentation(), generator)

    def lengths(self, encoded: Sound) -> np.ndarray | None:
        """Samples [N]."""
        return encoded.waves.lengths
