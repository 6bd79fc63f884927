"""Which columns of an input hold what the model reads: by the names of the recipe's source, else by ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.data.sources._columns import name_of, setting_of
from retrainer.errors import DataError
from retrainer.formats.row_keys import read_rows
from retrainer.settings import Source

if TYPE_CHECKING:
    from retrainer.tasks._protocol import Task

_COLUMNS_SHOWN = 20


@dataclass(frozen=True)
class InputColumns:
    """`words`: each column that the model reads → its type (see `retrainer.formats.columns`); the main one is
    the first. `names`: the same → its name in the user's data. `needed`: those that must be there."""

    words: Mapping[str, str]
    names: Mapping[str, str]
    needed: frozenset[str]

    @property
    def first(self) -> str:
        return next(iter(self.words))

    @property
    def holds_files(self) -> bool:
        """Whether the first column holds images or sounds."""
        return self.words[self.first] in ("image", "audio")

    def find(self, present: Collection[str]) -> dict[str, str]:
        """The model's column → the input's. Raises DataError (without a file's name) for an absent one."""
        found = {
            ours: name for ours in self.words for name in (ours, self.names[ours]) if name in present
        }  # the user's name comes last, and wins
        for ours in self.words:
            if ours in self.needed and ours not in found:
                raise DataError(self._absent(ours, present))
        return found

    def find_in_file(self, present: Collection[str], name: str) -> dict[str, str]:
        """The same, of a file that has these columns; the error begins with its name."""
        try:
            return self.find(present)
        except DataError as error:
            raise DataError(f"{name} has {error}") from None

    def _absent(self, ours: str, present: Collection[str]) -> str:
        shown = ", ".join(f"'{name}'" for name in list(present)[:_COLUMNS_SHOWN]) or "none"
        more = ", …" if len(present) > _COLUMNS_SHOWN else ""
        return (
            f"no column '{self.names[ours]}', which the model reads; its columns: {shown}{more};"
            f" rename the right one, or name it by source.{setting_of(ours)} in the recipe"
        )


def input_columns(task: Task, source: Source, model: Path) -> InputColumns:
    """What the model of this directory reads, where its training data is known; else what its task can read.

    A model that learned from pairs of texts needs both; one that learned from single texts ignores a second.
    """
    learned_from = {name for rows in read_rows(model).values() for name in rows.inputs}
    words = {n: w for n, w in task.input_columns.items() if not learned_from or n in learned_from}
    words = words or dict(task.input_columns)
    names = {ours: name_of(source, ours) or ours for ours in words}
    needed = frozenset(words if learned_from else list(words)[:1])
    return InputColumns(words, names, needed)
