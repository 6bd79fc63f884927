"""Text regression: one text or a pair → a number, such as a price or a rating. Imports nothing heavy."""

from __future__ import annotations

from retrainer.settings import Task
from retrainer.tasks._numbers import Regression
from retrainer.tasks._text_input import TextInput, TextOptions


class Options(TextOptions):
    """Further keys of `task:`."""


def make(task: Task, labels: tuple[str, ...]) -> TextRegression:  # noqa: ARG001 (there are no classes)
    """The task. Raises UserError for an unknown key of `task:`."""
    return TextRegression(Options.parse(task.options, "task"))


class TextRegression(TextInput, Regression):
    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
