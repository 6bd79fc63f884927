"""What is compared of two months' data; of the champion's it is all that is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Length:
    """Of a sample of so many rows the median and the standard deviation of log2 of a length or a size."""

    median: float
    deviation: float
    rows: int


@dataclass(frozen=True)
class DataFigures:
    """What is compared of a dataset.

    rows              all that came in, those left out included; test_rows: of the split `test`
    independent_rows  groups and clusters of near-duplicates, each counted once
    classes           class → rows (of a row of several classes each, of boxes their number), of all splits
    duplicates        share of the rows that only repeat another; unusable: that lack an input or a target
    lengths           what is measured (characters, pixels) → Length
    grouped           share of the rows that have a group; None of an older version, which kept no such figure
    """

    rows: int
    test_rows: int
    independent_rows: int
    classes: Mapping[str, int] = field(default_factory=dict)
    duplicates: float = 0.0
    unusable: float = 0.0
    lengths: Mapping[str, Length] = field(default_factory=dict)
    grouped: float | None = None

    def plain(self) -> dict[str, Any]:
        """As `data.figures` of metrics.json has it."""
        return asdict(self)


@dataclass(frozen=True)
class Months:
    """This month's data, and the champion's where they are known. `sha256` is of this month's rows, which
    are the champion's very rows when `same`."""

    now: DataFigures
    then: DataFigures | None
    sha256: str
    same: bool = False


def figures_from(plain: Any) -> DataFigures | None:
    """What `DataFigures.plain` gave; None for anything else, as of an older version."""
    try:
        lengths = {
            str(name): Length(float(one["median"]), float(one["deviation"]), int(one["rows"]))
            for name, one in plain["lengths"].items()
        }
        return DataFigures(
            rows=int(plain["rows"]),
            test_rows=int(plain["test_rows"]),
            independent_rows=int(plain["independent_rows"]),
            classes={str(name): int(rows) for name, rows in plain["classes"].items()},
            duplicates=float(plain["duplicates"]),
            unusable=float(plain["unusable"]),
            lengths=lengths,
            grouped=None if plain.get("grouped") is None else float(plain["grouped"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
