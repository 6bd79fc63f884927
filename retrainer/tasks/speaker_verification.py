"""Speaker verification: one sound → an embedding of the voice, and who of a gallery it is. Imports nothing
heavy."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from retrainer.settings import Task
from retrainer.tasks._sound_input import SoundInput, SoundOptions
from retrainer.tasks._verification import Verification, VerificationOptions

if TYPE_CHECKING:
    from retrainer.tasks._audio import Augmentation


class Options(SoundOptions, VerificationOptions):
    """Further keys of `task:`."""

    crop_seconds: float = Field(
        0.0, ge=0, description="in training, a random stretch of so many seconds of each sound; 0: all of it"
    )

    def augmentation(self) -> Augmentation:
        return replace(super().augmentation(), crop_seconds=self.crop_seconds)


def make(task: Task, labels: tuple[str, ...]) -> SpeakerVerification:  # noqa: ARG001 (there are no classes)
    """The task. Raises UserError for an unknown key of `task:`."""
    return SpeakerVerification(Options.parse(task.options, "task"))


class SpeakerVerification(SoundInput, Verification):
    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    def input_spec(self) -> dict[str, Any]:
        return super().input_spec() | {"frames": False}
