"""Tags of words that tell spans, such as entities: a letter and a type (`B-PER`), or `O` for a word outside.

B begins a span, I goes on, E or L ends it, S or U is a span of one word. A word without a tag (None) is
outside.
"""

from __future__ import annotations

from collections.abc import Sequence

# Type, and the numbers of its first and last word.
Span = tuple[str, int, int]
Tags = Sequence[str | None]

OUTSIDE = "O"
_LETTERS = frozenset("BIELSUO")
# BILOU's letters by those of IOBES, which says the same.
_SAME = {"L": "E", "U": "S"}
_OUT = (OUTSIDE, "")


def split_tag(tag: str | None) -> tuple[str, str]:
    """Letter and type of a tag; the letter is O, B, I, E or S, and `_` the type of a bare letter."""
    if not tag or tag[0] == OUTSIDE:
        return _OUT
    return _SAME.get(tag[0], tag[0]), tag[1:].split("-", maxsplit=1)[-1] or "_"


def is_span_tag(tag: str) -> bool:
    """Whether it is a tag of one of these forms."""
    return tag in _LETTERS or (tag[:1] in _LETTERS - {OUTSIDE} and tag[1:2] == "-" and len(tag) > 2)


def spans(tags: Tags) -> list[Span]:
    """As conlleval reads them: a span begins wherever its tag cannot go on the one before it.

    Equal to seqeval's (1.2.2) `get_entities`, but that L and U, which it does not know, are E and S.
    """
    found: list[Span] = []
    start, before = 0, _OUT
    for place, (letter, kind) in enumerate([*map(split_tag, tags), _OUT]):
        other = kind != before[1]
        if before[0] != OUTSIDE and (before[0] in "ES" or letter in "BSO" or other):
            found.append((before[1], start, place - 1))
        if letter != OUTSIDE and (letter in "BS" or before[0] in "ESO" or other):
            start = place
        before = letter, kind
    return found
