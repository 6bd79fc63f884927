"""Tasks, one file each: see `_protocol.Task` for what a task is. Nothing heavy is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer import extend
from retrainer.errors import SettingError

if TYPE_CHECKING:
    from retrainer.settings import Task as TaskSection
    from retrainer.tasks._protocol import Task


def make_task(section: TaskSection, labels: tuple[str, ...] = ()) -> Task:
    """The task that the settings name, for these classes. Raises UserError for an unknown kind or key.

    Without `labels` it can tell its columns and abilities, and train nothing that needs classes.
    """
    made: Task = extend.load("tasks", section.kind, "task.kind").make(section, labels)
    for member in ("input_columns", "target_columns", "abilities", "metrics"):
        if not hasattr(made, member):
            raise SettingError(
                f"task.kind: the task of {section.kind} has no '{member}'; see docs/extending.md"
            )
    return made
