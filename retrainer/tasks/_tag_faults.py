"""What is wrong with a row of sequence tagging, before anything is learned from it. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence

from retrainer.formats.words import words_of

# A batch holds the texts of its rows, each as wide as the longest of them.
MOST_CHARACTERS = 100_000


def fault(text: str, tags: Sequence[str]) -> str | None:
    """Why the row cannot be used; None where it can."""
    if len(text) > MOST_CHARACTERS:
        return too_long(text)
    words = len(words_of(text))
    return None if words == len(tags) else f"{words} words and {len(tags)} tags"


def too_long(text: str) -> str:
    """What is said of a text that is no sentence."""
    return f"a text of {len(text):,} characters, beyond {MOST_CHARACTERS:,}"
