"""The one kind of error that is a person's to mend."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Says in one line which setting, file or row is wrong, and the cure.

    The command line prints it without a traceback and exits with status 2.
    """


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when a known name is close, else the known names."""
    names = sorted(known)
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(names)}"
