"""What the checks of the data found: it stops the run in one line, or is kept for all that show it.

The terminal's closing table, both reports, the model card, MLflow's tags and the webhook say the same of it:
they read the part `data` of metrics.json by the functions at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from retrainer.errors import SettingError, UserError
from retrainer.settings import Checks, Limit
from retrainer.texts import shortened

MOST_EXAMPLES = 5
_EXAMPLES_IN_ERROR = 3
_MOST_CHARACTERS = 120
_MOST_TAG_CHARACTERS = 2000


@dataclass(frozen=True)
class Finding:
    """`count` things are as `note` says; `examples` are origins or names, the first ones.

    level   as the settings have it: a word, or the share beyond which the run would have stopped
    share   how much of the whole it is, 0 to 1; None where there is no whole to speak of
    cure    what a person can do about it
    A check that did not look has the level `off`, one that looked in vain the count 0.
    """

    name: str
    level: Limit
    count: int
    note: str
    examples: tuple[str, ...] = ()
    share: float | None = None
    cure: str = ""

    @property
    def stops(self) -> bool:
        if not self.count:
            return False
        if isinstance(self.level, float):
            return self.share is not None and self.share > self.level
        return self.level == "error"

    def in_one_line(self) -> str:
        """The message of a run that it stops; it ends with the settings that accept it."""
        named = ", ".join(self.examples[:_EXAMPLES_IN_ERROR])
        named += ", …" if self.count > _EXAMPLES_IN_ERROR else ""
        where = f" ({named})" if self.examples else ""
        accepted = "warn"
        if isinstance(self.level, float) and self.share is not None:
            where += f": {percent(self.share)}, and more than {percent(self.level)} stops a run"
            accepted = _just_above(self.share)
        said = f"checks.{self.name}: {self.count} {self.note}{where}"
        return f"{said}; {self.cure}, or set checks: {{{self.name}: {accepted}}}"


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
        self,
        name: str,
        count: int,
        note: str,
        examples: Iterable[str] = (),
        cure: str = "correct the source",
        share: float | None = None,
    ) -> None:
        """Notes what a check found, also 0; `stop` says whether the run goes on."""
        level: Limit = getattr(self.checks, name, "warn")
        shown = tuple(_line(example) for example in islice(examples, MOST_EXAMPLES))
        self.found.append(Finding(name, level, count, note, shown, share, cure))

    def stop(self) -> None:
        """Raises SettingError, all in one line, when a check's level is `error` and it found something, or
        more than the share that its level is."""
        if stopping := [finding.in_one_line() for finding in self.found if finding.stops]:
            raise SettingError("; besides, ".join(stopping))

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """What stops the run is said at the end, so that a person reads all of it at once; also where an
        error comes of it, as when too few rows are left."""
        try:
            yield
        except UserError:
            self.stop()
            raise
        self.stop()

    def plain(self) -> list[dict[str, Any]]:
        """As manifest.json and metrics.json keep them."""
        return [asdict(finding) | {"examples": list(finding.examples)} for finding in self.found]


def share_of(count: int, whole: int) -> float:
    return round(count / whole, 6) if whole else 0.0


def percent(share: float) -> str:
    """0.05 → 5%; of a share that is not 0 always a digit that is not 0."""
    return f"{100 * share:.2g}%" if share < 0.1 else f"{100 * share:.0f}%"


def _just_above(share: float) -> str:
    """The setting that accepts this share, and little more; beyond all that a share can be, `warn`."""
    above = math.floor(share * 1000 + 1) / 1000
    return f"{above:g}" if above < 1 else "warn"


def _line(text: str) -> str:
    return shortened(" ".join(text.split()), _MOST_CHARACTERS)


# --- of the part `data` of metrics.json, whoever shows it ---------------------------------------------------


def left_out(data: Mapping[str, Any]) -> int:
    return sum(data.get("dropped", {}).values())


def rows_in(data: Mapping[str, Any]) -> int:
    return sum(data.get("rows", {}).values()) + left_out(data)


def found_by(data: Mapping[str, Any]) -> dict[str, int]:
    """Check → how many things it found; only of checks that found some."""
    found: dict[str, int] = {}
    for check in data.get("checks", ()):
        if check["count"]:
            found[check["name"]] = found.get(check["name"], 0) + check["count"]
    return found


def data_tags(data: Mapping[str, Any]) -> dict[str, str]:
    """Tags of MLflow's runs and versions: `data.rows_in`, `data.left_out`, and `data.found`, which names each
    check with its count, or says `nothing`. None for a report of an older version."""
    if not data:
        return {}
    found = ", ".join(f"{name} {count}" for name, count in sorted(found_by(data).items()))
    return {
        "data.rows_in": str(rows_in(data)),
        "data.left_out": str(left_out(data)),
        "data.found": found[:_MOST_TAG_CHARACTERS] or "nothing",
    }
