"""Whether what became of a month is what was expected of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from benchmarks.trust.careless.mistakes import Mistake
from benchmarks.trust.careless.ours import Outcome

# Half of gate.max_drop: what a class must lose in truth for a hold to be no false alarm.
REAL_FALL = 0.1


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


def alarm(outcome: Outcome, before: Outcome, right: Mapping[str, int]) -> list[str]:
    """What a clean month set off: a stop, a hold, or a check that found nothing last month.

    A hold is right where each class that it names truly fell: on rows that no month holds, by REAL_FALL. What
    a check finds is right up to the number that `right` has of it.
    """
    if outcome.decision == "stopped" or (outcome.decision == "held" and not really_fell(outcome)):
        return [outcome.decision]
    new = outcome.found.keys() - before.found.keys()
    return sorted(name for name in new if outcome.found[name] > right.get(name, 0))


def really_fell(outcome: Outcome) -> bool:
    falls = [champions - ours for _, ours, champions in outcome.fell.values()]
    return bool(falls) and min(falls) >= REAL_FALL
