"""What `make tune` searches: which settings, in which ranges, by how many trainings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field

from retrainer.errors import SettingError
from retrainer.settings.section import Section


class Range(Section):
    """The values of one setting: from `low` to `high`, or one of `choices`."""

    low: float | None = Field(None, description="the least value")
    high: float | None = Field(None, description="the greatest value")
    log: bool = Field(False, description="as likely between 0.001 and 0.01 as between 0.01 and 0.1")
    choices: tuple[Any, ...] = Field((), description="these values instead: [16, 32, 64]")

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: str) -> Self:
        found = super().parse(data, where)
        found.require_range(where)
        return found

    def require_range(self, where: str) -> None:
        """Raises UserError for a range without two different values."""
        ends = [self.low, self.high]
        if self.choices:
            if ends != [None, None] or self.log or len(self.choices) < 2:
                raise SettingError(f"setting {where}: needed are two choices or more, or low and high")
        elif self.low is None or self.high is None or self.low >= self.high:
            raise SettingError(f"setting {where}: needed are low and high, low the smaller one, or choices")
        elif self.log and self.low <= 0:
            raise SettingError(f"setting {where}.low: with log it must be above 0 (got {self.low:g})")


class Tune(Section):
    """Asked by `make tune` alone; no step of the pipeline reads it."""

    trials: int = Field(20, ge=1, le=10_000, description="trainings in all; TRIALS= of make")
    jobs: int = Field(1, ge=1, le=64, description="trainings at a time, a process each; JOBS= of make")
    seed: int = Field(0, ge=0, description="of what is tried; the trainings have training.seed, all the same")
    metric: str = Field(
        "loss", description="of the validation rows: loss, or a figure that training shows, as accuracy"
    )
    prune: bool = Field(
        True, description="end a trial that is worse than the median of the others at the same epoch"
    )
    search: dict[str, Range] = Field(
        {},
        description="setting of training or backbone → its range; empty: learning rates, batch size and"
        " weight decay around the recipe's own",
    )

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: str) -> Self:
        found = super().parse(data, where)
        for key, searched in found.search.items():
            searched.require_range(f"{where}.search.{key}")
        return found
