"""Image regression: one image → a number, such as a price or a rating. Imports nothing heavy."""

from __future__ import annotations

from retrainer.settings import Task
from retrainer.tasks._image_input import ImageInput, ImageOptions
from retrainer.tasks._numbers import Regression


class Options(ImageOptions):
    """Further keys of `task:`."""


def make(task: Task, labels: tuple[str, ...]) -> ImageRegression:  # noqa: ARG001 (there are no classes)
    """The task. Raises UserError for an unknown key of `task:`."""
    return ImageRegression(Options.parse(task.options, "task"))


class ImageRegression(ImageInput, Regression):
    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.abilities |= {"resizing"}
