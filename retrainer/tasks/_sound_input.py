"""What the tasks share that read a sound. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from retrainer.settings import Section

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from torch import Tensor

    from retrainer.tasks._audio import Augmentation, Sound
    from retrainer.tasks._speech import Speech


class SoundOptions(Section):
    """From `speed` on: augmentation, drawn afresh for each row and epoch, evenly between none and these."""

    sampling_rate: int = Field(
        0, ge=0, le=48_000, description="samples a second that the network hears; 0: the model family's own"
    )
    max_seconds: float = Field(30.0, gt=0, le=3600, description="a longer sound is an error")
    speed: float = Field(0.0, ge=0, lt=0.9, description="0.1: played 0.9 to 1.1 times as fast, pitch and all")
    vocal_tract: float = Field(
        0.0,
        ge=0,
        lt=0.9,
        description="log-mel: 0.1: frequencies times 0.9 to 1.1, as of a longer or shorter one",
    )
    equaliser: float = Field(
        0.0, ge=0, description="log-mel: decibels by which smooth curves over the bands are louder or softer"
    )
    background_db: float = Field(
        0.0,
        ge=0,
        le=60,
        description="log-mel: noise of random level and colour, by so many decibels at least fainter than the"
        " sound's loudest band; 0: none",
    )
    silence_seconds: float = Field(
        0.0, ge=0, description="silence before and behind the sound, for half of the rows"
    )
    shift_seconds: float = Field(
        0.0, ge=0, description="silence before the sound, or so much cut from its start"
    )
    noise: float = Field(0.0, ge=0, description="of white noise: its share of the sound's root mean square")
    frequency_masks: int = Field(
        0, ge=0, description="log-mel: bands that are hidden, each up to a fifth of all"
    )
    time_masks: int = Field(
        0, ge=0, description="log-mel: stretches that are hidden, each up to a fifth of a row"
    )

    def augmentation(self) -> Augmentation:
        from retrainer.tasks._audio import Augmentation

        return Augmentation(
            self.speed,
            self.shift_seconds,
            self.noise,
            self.vocal_tract,
            self.frequency_masks,
            self.time_masks,
            self.equaliser,
            self.silence_seconds,
            self.background_db,
        )


class SoundInput:
    """Reads `audio`, a sound file."""

    input_columns: Mapping[str, str] = {"audio": "audio"}
    options: SoundOptions

    def input_spec(self) -> dict[str, Any]:
        """What a model family must accept, but for what it makes of it."""
        rate, most = self.options.sampling_rate, self.options.max_seconds
        return {"kind": "audio", "sampling_rate": rate or None, "max_seconds": most}

    def encode(
        self,
        table: pa.Table,
        preprocessing: dict[str, Any],
        assets: dict[str, bytes],  # noqa: ARG002 (a sound needs none)
    ) -> Sound | Speech:
        """Decodes every sound once."""
        from retrainer.tasks._audio import Sound
        from retrainer.tasks._waves import encode_audio

        rate, most = int(preprocessing["sampling_rate"]), float(preprocessing["max_seconds"])
        return Sound(encode_audio(table, rate, most), preprocessing)

    def batch(
        self, encoded: Sound | Speech, rows: np.ndarray, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """`audio` and `lengths` (and of transcripts `targets`); each sound gets its own augmentation."""
        return encoded.batch(rows, self.options.augmentation(), generator)

    def lengths(self, encoded: Sound | Speech) -> np.ndarray | None:
        """Samples [N]."""
        return encoded.waves.lengths
