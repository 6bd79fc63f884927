"""What became of a command, read from what the product printed and wrote, and a month made of such."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.year.project import Project, Said
from benchmarks.year.rows import Arrivals, Row
from retrainer.evaluation import words
from retrainer.services.lookup import CHAMPION

# In a word, for the page; `held`: a rule besides the comparison with the champion was against it.
PROMOTED, CHALLENGER, HELD, NOTHING_NEW = "promoted", "challenger", "held", "nothing new"
STOPPED, PREEMPTED, ROLLED_BACK, BY_A_PERSON = "stopped", "preempted", "rolled back", "promoted by a person"
KINDS = (PROMOTED, BY_A_PERSON, CHALLENGER, HELD, NOTHING_NEW, STOPPED, ROLLED_BACK, PREEMPTED)
_DATA = "data"


@dataclass(frozen=True)
class Figure:
    """The gate's metric on a test set of `n` rows, with its interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Outcome:
    """What became of one command.

    kind       one of KINDS
    reason     the product's own sentence on why
    seconds    of the whole command
    decision   why it trained at all, or did not, by retrain.policy; empty where nobody asked
    data       what the checks of the data found; empty where no model was judged
    version    that was registered, or became champion
    candidate, champion  on the same rows of this month; None where none was judged, or compared
    cost       what metrics.json says that the training used, by its own names; empty where none ran, and
               where it does not say
    """

    kind: str
    reason: str
    seconds: float
    printed: str = field(repr=False, default="")
    decision: str = ""
    data: str = ""
    version: str = ""
    candidate: Figure | None = None
    champion: Figure | None = None
    metric: str = ""
    cost: dict[str, Any] = field(default_factory=dict)


Do = Callable[[Project], Outcome]


@dataclass(frozen=True)
class Act:
    """One command of a month, and what was expected of it before it ran.

    command  as a person types it
    kinds    the outcomes that are right; several where none of them was planted
    says     what must stand in what it prints
    """

    command: str
    do: Do
    kinds: tuple[str, ...]
    says: str = ""

    def as_expected(self, outcome: Outcome) -> bool:
        printed = " ".join(outcome.printed.split())  # tables break lines where a word ends
        return outcome.kind in self.kinds and self.says in printed

    @property
    def expected(self) -> str:
        return " or ".join(self.kinds) + (f", saying “{self.says}”" if self.says else "")


@dataclass(frozen=True)
class Month:
    """What comes in a month, and what is done.

    title    the event in a few words; `came` in a sentence
    export   the rows of the month's file, from those of all months and this month's number
    before   done besides the data, as an attack or an edit of the recipe
    """

    name: str
    title: str
    came: str
    export: Callable[[Arrivals, int], Sequence[Row]]
    acts: tuple[Act, ...]
    before: Callable[[Project], None] | None = None


# --- reading ------------------------------------------------------------------------------------------------


def retrained(project: Project, said: Said) -> Outcome:
    """Of `make retrain` or `make pipeline`, by its exit status and the files that it wrote."""
    if said.status:
        return Outcome(STOPPED, said.reason, said.seconds, said.printed)
    decision = project.made("decision", "decision.json")
    why = str(decision.get("why", ""))
    if decision.get("choice") == "stop":
        return Outcome(NOTHING_NEW, why, said.seconds, said.printed, decision=why)
    return _judged(project, said, why)


def _judged(project: Project, said: Said, decision: str) -> Outcome:
    report = project.made("report", "metrics.json")
    registration = project.made("registration", "registration.json")
    metric, champion = words.gate_metric(report), report["champion"]
    compared = champion["metrics"][metric] if champion and champion["compared"] else None
    return Outcome(
        _kind(report, registration),
        report["gate"]["reasons"][0],
        said.seconds,
        said.printed,
        decision,
        words.data(report),
        str(registration["version"]),
        _figure(report["metrics"][metric]),
        compared and _figure(compared),
        words.gate_title(report),
        report.get("training_cost") or {} if "── train" in said.printed.splitlines() else {},
    )


def _kind(report: dict[str, Any], registration: dict[str, Any]) -> str:
    if registration["alias"] == CHAMPION:
        return PROMOTED
    _, *others = words.rules(report)
    return CHALLENGER if all(rule["passed"] for rule in others) else HELD


def _figure(plain: dict[str, Any]) -> Figure:
    return Figure(plain["value"], plain["low"], plain["high"], plain["n"])


def plain(outcome: Outcome) -> dict[str, Any]:
    """As year.json keeps it; what was printed is kept in a file of its own."""
    return {name: value for name, value in asdict(outcome).items() if name != "printed"}
