"""Text classification: one text or a pair → one class, or several. Imports nothing heavy."""

from __future__ import annotations

from retrainer.settings import Task
from retrainer.tasks._classes import Classification, ClassOptions
from retrainer.tasks._text_input import TextInput, TextOptions


class Options(TextOptions, ClassOptions):
    """Further keys of `task:`."""


def make(task: Task, labels: tuple[str, ...]) -> TextClassification:
    """The task for these classes. Raises UserError for an unknown key of `task:`."""
    return TextClassification(Options.parse(task.options, "task"), labels, task.multi_label)


class TextClassification(TextInput, Classification):
    def __init__(self, options: Options, labels: tuple[str, ...], multi_label: bool) -> None:
        super().__init__(labels, multi_label, options.head)
        self.options = options
