"""Image verification: one image → an embedding of whom or what it shows, and who of a gallery it is. Imports
nothing heavy."""

from __future__ import annotations

from retrainer.settings import Task
from retrainer.tasks._image_input import ImageInput, ImageOptions
from retrainer.tasks._verification import Verification, VerificationOptions


class Options(ImageOptions, VerificationOptions):
    """Further keys of `task:`."""


def make(task: Task, labels: tuple[str, ...]) -> ImageVerification:  # noqa: ARG001 (there are no classes)
    """The task. Raises UserError for an unknown key of `task:`."""
    return ImageVerification(Options.parse(task.options, "task"))


class ImageVerification(ImageInput, Verification):
    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.abilities |= {"resizing"}
