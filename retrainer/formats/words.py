"""The words of a text, as a row of a dataset writes them: tabs divide them where they are known.

    "U.S.\\tstocks\\tfell"    tabs: the words are what lies between them, and may hold spaces and any marks
    "U.S. stocks fell."      no tab: runs of letters and digits, which apostrophes, hyphens, full stops and
                             commas may join inside, and every other mark by itself: U.S | . | stocks | …

So a text column holds sentences whose words people have divided as well as plain sentences, and whatever
counts, compares or shows texts sees white space in both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

TAB = "\t"
_WORD = re.compile(r"\w+(?:['’.,\-]\w+)*|[^\w\s]")

Span = tuple[int, int]


def join_words(words: Iterable[str]) -> str:
    """The text of these words, none of which is empty or holds a tab. A single word has a tab behind it."""
    text = TAB.join(words)
    return text if TAB in text or not text else text + TAB


def word_spans(text: str) -> list[Span]:
    """Where each word begins and ends in the text, in characters."""
    if TAB not in text:
        return [found.span() for found in _WORD.finditer(text)]
    spans, start = [], 0
    for part in text.removesuffix(TAB).split(TAB):
        spans.append((start, start + len(part)))
        start += len(part) + len(TAB)
    return spans


def words_of(text: str) -> list[str]:
    """The words themselves."""
    return [text[start:end] for start, end in word_spans(text)]
