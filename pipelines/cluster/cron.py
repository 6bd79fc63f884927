"""Cron as Kubeflow's scheduler reads it (robfig/cron 1.2): six fields, seconds first.

    second 0-59   minute 0-59   hour 0-23   day 1-31   month 1-12 or JAN-DEC   weekday 0-6 or SUN-SAT

A field is `*` or `?`, or values, ranges `a-b` and steps `*/n`, `a/n`, `a-b/n`, with commas between. When day
and weekday are both given, either will do. `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly` and
`@every 1h30m` stand for themselves. The scheduler also takes five fields, and misreads them: refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from retrainer.errors import SettingError, UserError

_DESCRIPTORS = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_UNITS = {"h": 3600, "m": 60, "s": 1}
_EVERY = re.compile(r"@every\s+((?:\d+[hms])+)")
# The scheduler looks no further ahead either.
_HORIZON_DAYS = 5 * 366


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    names: dict[str, int]


_FIELDS = (
    _Field("second", 0, 59, {}),
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day", 1, 31, {}),
    _Field("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    _Field("weekday", 0, 6, {name: number for number, name in enumerate(_DAYS)}),
)


@dataclass(frozen=True)
class Schedule:
    """The moments that a cron expression names; `every` instead for a fixed distance."""

    text: str
    values: tuple[frozenset[int], ...] = ()
    any_day: bool = True
    every: timedelta | None = None

    def after(self, moment: datetime) -> datetime | None:
        """The first moment later than `moment`, in its time zone; None when there is none within 5 years."""
        if self.every is not None:
            return moment.replace(microsecond=0) + self.every
        moment = moment.replace(microsecond=0) + timedelta(seconds=1)
        seconds, minutes, hours = (sorted(values) for values in self.values[:3])
        for ahead in range(_HORIZON_DAYS):
            day = moment.date() + timedelta(days=ahead)
            if not self._takes(day.month, day.day, (day.weekday() + 1) % 7):
                continue
            begin = (moment.hour, moment.minute, moment.second) if ahead == 0 else (0, 0, 0)
            for clock in _clocks(hours, minutes, seconds):
                if clock >= begin:
                    return datetime(day.year, day.month, day.day, *clock, tzinfo=moment.tzinfo)
        return None

    def _takes(self, month: int, day: int, weekday: int) -> bool:
        days, months, weekdays = self.values[3:]
        hits = (day in days, weekday in weekdays)
        return month in months and (all(hits) if self.any_day else any(hits))


def _clocks(hours: list[int], minutes: list[int], seconds: list[int]) -> Iterator[tuple[int, int, int]]:
    return ((h, m, s) for h in hours for m in minutes for s in seconds)


def parse_cron(text: str) -> Schedule:
    """Raises UserError that names the field and the cure; also for a schedule that never comes."""
    words = text.split()
    if text.strip().startswith("@"):
        return _descriptor(" ".join(words).lower())
    if len(words) == 5:
        raise SettingError(
            f"CRON='{text}' has five fields, which Kubeflow would misread: it wants six, seconds first; "
            f"did you mean '0 {' '.join(words)}'?"
        )
    if len(words) != 6:
        raise SettingError(
            f"CRON='{text}' has {len(words)} fields; it needs six: second minute hour day month weekday, "
            "as in '0 0 3 * * *' for 3 o'clock every night"
        )
    values = tuple(_values(word, field, text) for word, field in zip(words, _FIELDS, strict=True))
    schedule = Schedule(" ".join(words), values, any_day=_is_star(words[3]) or _is_star(words[5]))
    if schedule.after(datetime.now(UTC)) is None:
        raise SettingError(f"CRON='{text}' never comes: no month has that day")
    return schedule


def _descriptor(text: str) -> Schedule:
    if text in _DESCRIPTORS:
        same = parse_cron(_DESCRIPTORS[text])
        return Schedule(text, same.values, same.any_day)
    if found := _EVERY.fullmatch(text):
        parts = re.findall(r"(\d+)([hms])", found[1])
        distance = timedelta(seconds=sum(int(count) * _UNITS[unit] for count, unit in parts))
        if distance >= timedelta(seconds=1):
            return Schedule(text, every=distance)
    known = ", ".join([*_DESCRIPTORS, "@every 12h"])
    raise SettingError(f"CRON='{text}' is unknown; known: {known}, or six fields as in '0 0 3 * * *'")


def _is_star(word: str) -> bool:
    return any(part.startswith(("*", "?")) for part in word.split(","))


def _values(word: str, field: _Field, text: str) -> frozenset[int]:
    return frozenset(value for part in word.split(",") for value in _range(part, field, text))


def _range(part: str, field: _Field, text: str) -> range:
    def wrong(why: str) -> UserError:
        return SettingError(
            f"CRON='{text}': the {field.name} '{part}' {why}; it goes from {field.low} to {field.high}"
        )

    def number(word: str) -> int:
        if word.lower() in field.names:
            return field.names[word.lower()]
        if not re.fullmatch(r"[0-9]+", word):
            raise wrong("is no number" if not field.names else "is neither a number nor a name")
        return int(word)

    span, slash, step_text = part.partition("/")
    low_text, dash, high_text = span.partition("-")
    if low_text in ("*", "?"):
        if dash:
            raise wrong("is no range")
        low, high = field.low, field.high
    else:
        low = number(low_text)
        high = number(high_text) if dash else (field.high if slash else low)
    step = number(step_text) if slash else 1
    if low < field.low or high > field.high or low > high:
        raise wrong("is out of range")
    if step < 1:
        raise wrong("has a step of 0")
    return range(low, high + 1, step)
