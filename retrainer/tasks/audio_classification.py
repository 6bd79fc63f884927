"""Audio classification: one sound → one class, such as a spoken word, or several. Imports nothing heavy."""

from __future__ import annotations

from typing import Any

from retrainer.settings import Task
from retrainer.tasks._classes import Classification, ClassOptions
from retrainer.tasks._sound_input import SoundInput, SoundOptions


class Options(SoundOptions, ClassOptions):
    """Further keys of `task:`."""


def make(task: Task, labels: tuple[str, ...]) -> AudioClassification:
    """The task for these classes. Raises UserError for an unknown key of `task:`."""
    return AudioClassification(Options.parse(task.options, "task"), labels, task.multi_label)


class AudioClassification(SoundInput, Classification):
    def __init__(self, options: Options, labels: tuple[str, ...], multi_label: bool) -> None:
        super().__init__(labels, multi_label, options.head)
        self.options = options

    def input_spec(self) -> dict[str, Any]:
        return super().input_spec() | {"frames": False}
