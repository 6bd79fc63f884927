"""Names of rows and groups that are others' but for case, white space or leading zeros: `007` and `7`.

They are compared as they are written, so what is meant to be one is two: rows of one group come into two
splits, and a row of the own test set is trained on under its other name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from retrainer.data.splits import Rows
from retrainer.findings import Findings

# Not in 1.05, which is no 1.5.
_LEADING_ZEROS = re.compile(r"(?<![\d.,])0+(?=\d)")


def check_spelling(
    rows: Rows, ids: Sequence[str | None], groups: Sequence[str | None], findings: Findings
) -> None:
    """The check `id_spelling`: groups of any rows, and ids of held-out rows beside those of all others."""
    held_out = set(rows.held_out())
    found = _spelt_alike(groups)
    if held_out:
        ours, theirs = ([ids[row] for row in part] for part in (held_out, set(range(len(ids))) - held_out))
        found += _spelt_alike_between(ours, theirs)
    if not found or not findings.looks("id_spelling"):
        return
    note = (
        "groups, or ids of your own test or validation set and of the training rows, that differ only in"
        " case, space or leading zeros; they count as different"
    )
    named = (" = ".join(names) for names in found)
    findings.add("id_spelling", len(found), note, named, "write each in one way (source.group, source.id)")


def plain(name: str) -> str:
    """Without case, white space and leading zeros."""
    return _LEADING_ZEROS.sub("", "".join(name.casefold().split()))


def _by_plain_name(names: Iterable[str | None]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for name in {name for name in names if name and name.strip()}:
        found[plain(name)].add(name)
    return found


def _spelt_alike(names: Iterable[str | None]) -> list[list[str]]:
    return sorted(sorted(alike) for alike in _by_plain_name(names).values() if len(alike) > 1)


def _spelt_alike_between(ours: Iterable[str | None], theirs: Iterable[str | None]) -> list[list[str]]:
    """Of each plain name that both have, a spelling of either; none where they share one as it is written."""
    here, there = _by_plain_name(ours), _by_plain_name(theirs)
    both = sorted(name for name in here.keys() & there.keys() if not here[name] & there[name])
    return [[min(here[name]), min(there[name])] for name in both]
