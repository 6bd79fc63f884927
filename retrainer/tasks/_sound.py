"""Keys of `task:` that all tasks on sound share. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from retrainer.settings import Section

if TYPE_CHECKING:
    from retrainer.tasks._audio import Augmentation


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

    def input_spec(self) -> dict[str, Any]:
        """What a model family must accept, but for what it makes of it."""
        return {"kind": "audio", "sampling_rate": self.sampling_rate or None, "max_seconds": self.max_seconds}

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
