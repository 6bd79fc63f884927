"""Whether what became of a month is what was expected of it."""

from __future__ import annotations

import re

from benchmarks.trust.careless.mistakes import Mistake
from benchmarks.trust.careless.ours import Outcome


def is_named(mistake: Mistake, outcome: Outcome, before: Outcome) -> bool:
    """Whether why it was stopped or held fits the mistake's pattern; or what a person reads does, and did not
    last month."""
    if not mistake.says:
        return False
    if re.search(mistake.says, outcome.reason.lower()):
        return True
    told = re.search(mistake.says, outcome.shown.lower())
    return bool(told) and not re.search(mistake.says, before.shown.lower())


def as_expected(mistake: Mistake, outcome: Outcome, named: bool) -> bool:
    if mistake.expected == "harmless":
        worse = outcome.truth is not None and outcome.truth[0] < outcome.truth[1]
        return outcome.decision != "promoted" or not worse
    strong = {"stop": ("stopped",), "hold": ("stopped", "held")}.get(mistake.expected)
    return named and (strong is None or outcome.decision in strong)


def alarm(outcome: Outcome, before: Outcome) -> list[str]:
    """What a clean month set off: a stop, a hold, or a check that found nothing last month."""
    if outcome.decision in ("stopped", "held"):
        return [outcome.decision]
    return sorted(outcome.found.keys() - before.found.keys())
