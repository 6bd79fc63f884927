"""When a row arose, as whole microseconds since 1970 in UTC: one number, whatever the source wrote."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from retrainer.errors import SettingError

# A bare number is no time: it could be seconds, milliseconds or days since anything.
_ISO = re.compile(r"(\d{4})(-\d{2})?(-\d{2})?([ T]\d{2}:?\d{2}\S*(?: ?[+-]\d{2}:?\d{2})?)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(text: str | None) -> int | None:
    """An ISO year, month, day or time of day (UTC where it names no zone); None for anything else."""
    match = _ISO.fullmatch((text or "").strip())
    if match is None:
        return None
    year, month, day, clock = match.groups()
    if clock and not day:
        return None
    whole = f"{year}{month or '-01'}{day or '-01'}{(clock or '').replace(' ', 'T', 1).replace(' ', '')}"
    try:
        when = datetime.fromisoformat(whole)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return (when - _EPOCH) // timedelta(microseconds=1)


def needed_instants(times: Sequence[str | None], origins: Sequence[str]) -> list[int]:
    """Every row's instant. Raises UserError naming the first row that has none."""
    found = []
    for text, origin in zip(times, origins, strict=True):
        at = instant(text)
        if at is None:
            said = f"its time is {text[:60]!r}" if text and text.strip() else "it has no time"
            raise SettingError(
                f"split.by: time, and {origin} cannot be placed: {said}; write times as 2024-03-01 or "
                "2024-03-01T12:30:00+00:00 (source.time names the column)"
            )
        found.append(at)
    return found


def first_of_test(text: str) -> int:
    """`split.test_from` as an instant."""
    at = instant(text)
    if at is None:
        raise SettingError(f"split.test_from: {text!r} is no date; write it as 2024-03-01")
    return at
