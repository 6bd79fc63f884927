"""This month's data beside the champion's: what changed by more than a month is allowed to change it.

A changed month may be right, as a new class that was asked for, and no figure on its test rows can tell: they
changed with it. So the promotion is held until a person has looked, and says so by `gate.accepted_data`.

Chance alone changes the shares of labels and the median of lengths: what chance does to so many rows that do
not depend on each other is allowed besides. Of the rows of one group or cluster one counts.
Legend: K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from retrainer.gate.data_figures import DataFigures, Length, Months
from retrainer.gate.rules import Rule
from retrainer.settings import Gate

# The name of the rule, in reports and tags.
NAME = "data since the champion's"
# So many standard deviations are left to chance.
_DEVIATIONS = 4.0
# Of all classes together one may vanish by chance in so many months.
_CHANCE = 1e-3
_MEAN_OF_HALF_NORMAL = math.sqrt(2 / math.pi)
_SHOWN_CLASSES = 3
_SHOWN_DIGITS = 12


def data_changes(gate: Gate, months: Months | None) -> Iterator[Rule]:
    """The rule that holds a promotion; its `value` counts the changes. None without a champion's data."""
    if months is None or months.then is None:
        return
    found = [] if months.same else list(changes(gate, months.then, months.now))
    accepted = bool(gate.accepted_data) and months.sha256.startswith(gate.accepted_data)
    note = f"the data changed since the champion's: {'; '.join(found)}"
    if not found:
        note = "the data changed by no more than gate.changes allows"
    elif accepted:
        note += f"; accepted by gate.accepted_data = {gate.accepted_data}"
    else:
        line = f'gate: {{accepted_data: "{months.sha256[:_SHOWN_DIGITS]}"}}'
        note += f"; if this is as it should be, accept these very data by {line}"
    yield Rule(NAME, "gate.changes", float(len(found)), 0.0, accepted or not found, note)


def changes(gate: Gate, then: DataFigures, now: DataFigures) -> Iterator[str]:
    """Each change beyond what `gate.changes` allows, in words."""
    allowed = gate.changes
    fewer = list(_fewer("rows", then.rows, now.rows, allowed.fewer_rows, 0))
    # A test set of one's own stays as large as it was when half of the other rows are gone. How many rows the
    # test gets is partly chance otherwise.
    others = (then.rows - then.test_rows, now.rows - now.test_rows)
    yield from fewer or _fewer("training and validation rows", *others, allowed.fewer_rows, _DEVIATIONS)
    yield from _fewer("test rows", then.test_rows, now.test_rows, allowed.fewer_rows, _DEVIATIONS)
    if allowed.more_rows and now.rows > (1 + allowed.more_rows) * then.rows:
        yield f"rows {then.rows:,} → {now.rows:,} (gate.changes.more_rows = {allowed.more_rows:g})"
    yield from _classes(then, now, allowed.class_rows)
    yield from _label_shares(then, now, allowed.label_shares)
    for name in sorted({*then.lengths} & {*now.lengths}):
        yield from _length(name, then.lengths[name], now.lengths[name], allowed.lengths)
    yield from _share("rows that repeat another", then.duplicates, now.duplicates, "duplicates", gate)
    yield from _share("rows that lack something", then.unusable, now.unusable, "unusable", gate)
    if then.grouped is not None and now.grouped is not None:
        lost = "rows without a group (source.group)"
        yield from _share(lost, 1 - then.grouped, 1 - now.grouped, "groups", gate)


def _fewer(what: str, then: int, now: int, allowed: float, deviations: float) -> Iterator[str]:
    if allowed and now < (1 - allowed) * then and then - now > deviations * math.sqrt(then + now):
        yield f"{what} {then:,} → {now:,} (gate.changes.fewer_rows = {allowed:g})"


def _classes(then: DataFigures, now: DataFigures, least: int) -> Iterator[str]:
    """Classes that vanished or appeared, of which the other month should have `least` rows or more."""
    if not (least and then.classes and now.classes):
        return
    total, size = sum(then.classes.values()), sum(now.classes.values())
    # A class of so many rows is missed by chance once in exp(rows) months.
    needed = max(least, math.log(len({*then.classes, *now.classes}) / _CHANCE))
    for words, has, lacks, scale in (
        ("vanished", then.classes, now.classes, min(1.0, size / total)),
        ("appeared", now.classes, then.classes, min(1.0, total / size)),
    ):
        found = {name: rows for name, rows in has.items() if name not in lacks and rows * scale >= needed}
        if found:
            shown = [f"{name!r} ({rows:,} rows)" for name, rows in sorted(found.items())[:_SHOWN_CLASSES]]
            more = [f"{len(found) - len(shown):,} more"] if len(found) > len(shown) else []
            noun = "class" if len(found) == 1 else "classes"
            yield f"{noun} {words}: {', '.join([*shown, *more])} (gate.changes.class_rows = {least})"


def _label_shares(then: DataFigures, now: DataFigures, allowed: float) -> Iterator[str]:
    """The total variation distance of the shares, without what chance makes of it on the average.

    The difference of a class's shares is about normal; of half-normal values mean and deviation are summed.
    Chance and change are independent, so that their squares add up.
    """
    if not (allowed and then.classes and now.classes and then.independent_rows and now.independent_rows):
        return
    was, is_now = _shares(then.classes), _shares(now.classes)
    names = {*was, *is_now}
    distance = sum(abs(was.get(name, 0) - is_now.get(name, 0)) for name in names) / 2
    per_row = 1 / then.independent_rows + 1 / now.independent_rows
    pooled = [(was.get(name, 0) + is_now.get(name, 0)) / 2 for name in names]
    variances = [share * (1 - share) * per_row for share in pooled]
    mean = _MEAN_OF_HALF_NORMAL * sum(map(math.sqrt, variances)) / 2
    # Shares add up to one, so that those of two classes differ alike: at most twice the variance.
    deviation = math.sqrt(2 * (1 - 2 / math.pi) * sum(variances)) / 2
    moved = math.sqrt(max(0.0, distance**2 - mean**2))
    if moved > allowed and distance > mean + _DEVIATIONS * deviation:
        most = sorted(names, key=lambda name: -abs(was.get(name, 0) - is_now.get(name, 0)))[:_SHOWN_CLASSES]
        shown = (f"{name!r} {was.get(name, 0):.1%} → {is_now.get(name, 0):.1%}" for name in most)
        yield (
            f"shares of labels moved by {moved:.2f} in all, most of {', '.join(shown)}"
            f" (gate.changes.label_shares = {allowed:g})"
        )


def _shares(classes: Mapping[str, int]) -> dict[str, float]:
    total = sum(classes.values())
    return {name: rows / total for name, rows in classes.items()}


def _length(name: str, then: Length, now: Length, allowed: float) -> Iterator[str]:
    """The median's standard error is sqrt(π / 2) times the mean's, of normal values."""
    difference = now.median - then.median
    if not (allowed and then.rows and now.rows):
        return
    error = math.sqrt(math.pi / 2 * (then.deviation**2 / then.rows + now.deviation**2 / now.rows))
    if 2 ** abs(difference) - 1 > allowed and abs(difference) > _DEVIATIONS * error:
        yield (
            f"{name} in the median {2**then.median:,.0f} → {2**now.median:,.0f}"
            f" (gate.changes.lengths = {allowed:g})"
        )


def _share(what: str, then: float, now: float, key: str, gate: Gate) -> Iterator[str]:
    allowed = getattr(gate.changes, key)
    if allowed and now - then > allowed:
        yield f"{what} {then:.1%} → {now:.1%} (gate.changes.{key} = {allowed:g})"
