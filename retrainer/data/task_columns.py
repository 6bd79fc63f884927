"""Which columns of the data the task reads: its inputs, and its targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from retrainer.errors import SettingError
from retrainer.formats.dataset import LABELS
from retrainer.settings import Task
from retrainer.tasks import make_task

# Rows of equal inputs that differ in a target of these types contradict each other; of others (a translation,
# a measured number) several may be right.
_CONTRADICTING = ("strings", "boxes", "mask")
_NAMING = ("strings", "boxes", "mask")


@dataclass(frozen=True)
class TaskColumns:
    """Names of the inputs that the data has, and of the targets, in the task's order; `types` is of both."""

    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    types: Mapping[str, str]

    def inputs_of(self, *words: str) -> list[str]:
        return [name for name in self.inputs if self.types[name] in words]

    def texts(self) -> list[str]:
        """All columns of text, inputs first."""
        return [name for name in (*self.inputs, *self.targets) if self.types[name] == "string"]

    @property
    def classes(self) -> str | None:
        """The target whose names are the classes: strings, boxes or a mask; None where there is none."""
        return next((name for name in self.targets if self.types[name] in _NAMING), None)

    @property
    def contradicting(self) -> bool:
        """Whether rows of equal inputs and different targets contradict each other."""
        return "group" in self.targets or any(self.types[name] in _CONTRADICTING for name in self.targets)


def task_columns(task: Task, present: Sequence[str]) -> TaskColumns:
    """What the task reads of these columns. Raises UserError when one that it must have is absent."""
    made = make_task(task)
    first, targets = next(iter(made.input_columns)), tuple(made.target_columns)
    for name in (first, *targets):
        if name not in present:
            there = [one for one in present if one in ("text", "text_pair", "image", "audio")]
            setting = "label" if name == LABELS else name
            raise SettingError(
                f"task.kind {task.kind} reads the column '{name}', and the source has"
                f" {' and '.join(there) or 'none'}; set source.{setting} or another task.kind"
            )
    inputs = tuple(name for name in made.input_columns if name in present)
    return TaskColumns(inputs, targets, {**made.input_columns, **made.target_columns})
