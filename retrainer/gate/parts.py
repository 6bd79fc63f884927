"""Classes and slices beside the champion: a class that collapses while the average rises holds the model.

A part collapses when it falls below the champion by more than `gate.max_drop`, and equal models would show a
fall like it, in any of all parts together, at most with the probability `gate.alpha`: one-sided paired
tests, corrected for their number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrainer.gate.chance import p_said
from retrainer.gate.compare import FEWEST_DISCORDANT, compare
from retrainer.gate.corrected import PValue, corrected, smallest_corrected
from retrainer.gate.evidence import Evidence, Part
from retrainer.gate.pair import Pair
from retrainer.gate.rules import Rule
from retrainer.settings import Gate
from retrainer.texts import plural

CLASS = "class"
_MOST_NAMED = 3
# Other names must be quoted to be text in YAML.
_PLAIN = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)$)[A-Za-z_][\w-]*", re.IGNORECASE)


@dataclass(frozen=True)
class PartChange:
    """A class or a slice's value beside the champion.

    drop       below 0: the candidate is better there. `p_value`: corrected; None where the drop is too small
               to be a collapse, so that nothing was tested
    too_few    even the loss of every row that the champion has right would not be seen
    accepted   by a setting
    """

    by: str
    name: str
    title: str
    rows: int
    candidate: float
    champion: float
    drop: float
    p_value: float | None
    collapsed: bool
    accepted: bool
    too_few: bool


def part_changes(gate: Gate, evidence: Evidence) -> tuple[PartChange, ...]:
    """Every part, in the order of the evidence; none where `gate.max_drop` is 0."""
    if not gate.max_drop:
        return ()
    tests = [_test(part.pair, gate.max_drop) for part in evidence.parts]
    whole = smallest_corrected(tests, np.array([_whole_loss(part, gate.max_drop) for part in evidence.parts]))
    found = zip(evidence.parts, corrected(tests), whole > gate.alpha, strict=True)
    return tuple(_change(gate, part, p_value, bool(too_few)) for part, p_value, too_few in found)


def _test(pair: Pair, bound: float) -> PValue:
    """Is the champion better? Tested where the drop is large enough; 1 speaks against no other test."""
    turned = Pair(pair.other, pair.candidate, draws=pair.draws)
    discordant = pair.discordant_count
    exact = pair.is_share
    p_value = compare(turned).p_value if _falls(pair, bound) else 1.0
    # Where too few rows are discordant a bootstrap test refuses nothing: no p-value but 1 can come.
    counted = discordant if exact else None if discordant >= FEWEST_DISCORDANT else 0
    return PValue(p_value, counted)


def _falls(pair: Pair, bound: float) -> bool:
    """A share by so many points, any other figure by so large a part of the champion's."""
    unit = 1.0 if pair.other.metric.UNIT == "share" else abs(pair.other.value)
    return -pair.gain > bound * unit


def _whole_loss(part: Part, bound: float) -> float:
    """The p-value, were every row lost that the champion has right and none won. By McNemar's test it is
    1/2^rows; a bootstrap test has none that is smaller than one draw. 1 where even that is no fall, as the
    champion has no more than `bound`."""
    metric, champion = part.pair.other.metric, part.pair.other.value
    if metric.UNIT == "share" and metric.HIGHER_IS_BETTER and champion - metric.LOWEST <= bound:
        return 1.0
    if part.pair.is_share:
        return float(0.5 ** part.pair.other.right.sum())
    return 1.0 if part.pair.candidate.unit_count < FEWEST_DISCORDANT else 1 / (1 + part.pair.draws)


def _change(gate: Gate, part: Part, p_value: float, too_few: bool) -> PartChange:
    pair, falls = part.pair, _falls(part.pair, gate.max_drop)
    return PartChange(
        by=part.by,
        name=part.name,
        title=part.title,
        rows=part.rows,
        candidate=round(pair.candidate.value, 6),
        champion=round(pair.other.value, 6),
        drop=round(-pair.gain, 6),
        p_value=p_value if falls else None,
        collapsed=falls and p_value <= gate.alpha,
        accepted=_accepted(gate, part.by, part.name),
        too_few=too_few,
    )


def _accepted(gate: Gate, by: str, name: str) -> bool:
    return name in gate.accept_slices.get(by, ()) or (by == CLASS and name in gate.accept_classes)


def part_rules(gate: Gate, evidence: Evidence, changes: Sequence[PartChange]) -> list[Rule]:
    """None without a champion that was compared, and where `gate.max_drop` is 0."""
    if not gate.max_drop or evidence.champion is None:
        return []
    return [*_set_of_classes(gate, evidence), *_collapse(gate, changes)]


def needless(gate: Gate, evidence: Evidence, changes: Sequence[PartChange]) -> tuple[str, ...]:
    """What is accepted although nothing became of it; none where nothing was compared."""
    if not gate.max_drop or evidence.champion is None:
        return ()
    fallen = {(one.by, one.name) for one in changes if one.collapsed}
    fallen |= {(CLASS, name) for name in (*evidence.appeared, *evidence.vanished)}
    accepted = [(CLASS, name) for name in gate.accept_classes]
    accepted += [(by, name) for by, names in gate.accept_slices.items() for name in names]
    return tuple(f"{by} = {name}" for by, name in accepted if (by, name) not in fallen)


def _set_of_classes(gate: Gate, evidence: Evidence) -> list[Rule]:
    kinds = {"appears": evidence.appeared, "vanishes": evidence.vanished}
    if not any(kinds.values()):
        return []
    accepted = set(gate.accept_classes)
    new = {kind: [name for name in names if name not in accepted] for kind, names in kinds.items()}
    held = [name for names in new.values() for name in names]
    said = [f"class {_named(names)} {kind}" for kind, names in (new if held else kinds).items() if names]
    setting = "gate.accept_classes"
    note = f"beside the champion's classes, {' and '.join(said)}"
    note += f"; accept it by {_line(setting, held)}" if held else f", accepted by {setting}"
    return [Rule("classes", setting, len(held), 0, not held, note)]


def _collapse(gate: Gate, changes: Sequence[PartChange]) -> list[Rule]:
    if not changes:
        return []
    held = [one for one in changes if one.collapsed and not one.accepted]
    held.sort(key=lambda one: -one.drop)
    tested = plural(len(changes), "class or slice", "classes and slices")
    note = (
        f"of {tested} none falls by more than gate.max_drop = {gate.max_drop:g} that chance does not explain"
    )
    if held:
        said = "; ".join(_fall(one, len(changes)) for one in held[:_MOST_NAMED])
        more = f"; and {len(held) - _MOST_NAMED:,} more" if len(held) > _MOST_NAMED else ""
        note = f"{said}{more} (gate.max_drop = {gate.max_drop:g}); accept it by {_acceptance(held)}"
    elif kept := [one.name for one in changes if one.collapsed]:
        note = f"of {tested} {_named(kept)} collapses, accepted by gate.accept_classes or gate.accept_slices"
    return [Rule("collapse", "gate.max_drop", len(held), 0, not held, note)]


def _fall(one: PartChange, tests: int) -> str:
    what = (
        f"class {one.name!r}"
        if one.by == CLASS
        else f"{one.by} = {one.name if one.name.isprintable() else ascii(one.name)}"
    )
    figures = f"{one.title} {one.candidate:.3f}, the champion has {one.champion:.3f}"
    assert one.p_value is not None  # what was not tested does not fall
    chance = p_said(one.p_value) + (f" for all {tests:,} together" if tests > 1 else "")
    return f"{what} collapses: {figures} ({one.rows:,} rows, {chance})"


def _acceptance(held: Sequence[PartChange]) -> str:
    names = [one.name for one in held if one.by == CLASS]
    lines = [_line("gate.accept_classes", names)] if names else []
    by: dict[str, list[str]] = {}
    for one in held:
        if one.by != CLASS:
            by.setdefault(one.by, []).append(one.name)
    inner = ", ".join(_line(_quoted(key), values) for key, values in by.items())
    return " and ".join([*lines, *([f"gate.accept_slices: {{{inner}}}"] if by else [])])


def _line(setting: str, names: Sequence[str]) -> str:
    """All of them: pasted into a recipe, it accepts what is meant."""
    return f"{setting}: [{', '.join(map(_quoted, names))}]"


def _quoted(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=not name.isprintable())


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(repr(name) for name in names[:_MOST_NAMED]) + more
