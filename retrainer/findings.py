"""What the checks of the data found: `error` stops the run in one line, `warn` is kept for the reports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from retrainer.errors import SettingError
from retrainer.settings import Checks, Level
from retrainer.texts import shortened

MOST_EXAMPLES = 5
_EXAMPLES_IN_ERROR = 3
_MOST_CHARACTERS = 120


@dataclass(frozen=True)
class Finding:
    """`count` things are as `note` says; `examples` are origins or names, the first ones.

    A check that did not look has the level `off`, one that looked in vain the count 0.
    """

    name: str
    level: Level
    count: int
    note: str
    examples: tuple[str, ...] = ()


class Findings:
    """Collects findings; `checks` has their levels, and what it does not name warns."""

    def __init__(self, checks: Checks) -> None:
        self.checks = checks
        self.found: list[Finding] = []

    def looks(self, name: str) -> bool:
        """Whether the check is on. One that is off is noted as such."""
        if getattr(self.checks, name) != "off":
            return True
        self.found.append(Finding(name, "off", 0, "not looked at"))
        return False

    def add(
        self, name: str, count: int, note: str, examples: Iterable[str] = (), cure: str = "correct the source"
    ) -> None:
        """Raises UserError when `count` is not 0 and the check's level is `error`."""
        level: Level = getattr(self.checks, name, "warn")
        shown = tuple(_line(example) for example in islice(examples, MOST_EXAMPLES))
        if count and level == "error":
            named = ", ".join(shown[:_EXAMPLES_IN_ERROR]) + (", …" if count > _EXAMPLES_IN_ERROR else "")
            where = f" ({named})" if shown else ""
            raise SettingError(f"checks.{name}: {count} {note}{where}; {cure}, or set checks.{name}: warn")
        self.found.append(Finding(name, level, count, note, shown))

    def plain(self) -> list[dict[str, Any]]:
        """As manifest.json and metrics.json keep them."""
        return [asdict(finding) | {"examples": list(finding.examples)} for finding in self.found]


def _line(text: str) -> str:
    return shortened(" ".join(text.split()), _MOST_CHARACTERS)
