"""The English lexicon of word senses inside the package textblob (public domain, PDDL).

De Smedt & Daelemans, "Vreselijk mooi! A Subjectivity Lexicon for Dutch Adjectives" (2012) and its English
sibling: each sense of a word has a gloss and a polarity from -1 to 1 given by people.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from retrainer.data.sources._package import package_file, verified_bytes
from retrainer.settings import Source

FILE = "en/en-sentiment.xml"
SHA256 = "0ca603db55570bab9b2865716a3696ede01e3da02b570c47628a9dbcc3b37d1e"


class Sense(NamedTuple):
    """`number` counts the file's entries from 1."""

    number: int
    word: str
    gloss: str
    polarity: float


def lexicon_file(source: Source) -> Path:
    """The lexicon. Raises UserError when the package is not installed."""
    return package_file(source, "textblob", FILE)


def senses(path: Path) -> Iterator[Sense]:
    """Each sense once: of those listed again with another annotator's figures the first listing counts."""
    # The hash is checked first, so this XML is known and the plain parser is safe.
    entries = ElementTree.fromstring(verified_bytes(path, SHA256)).iter("word")
    seen: set[tuple[str, str]] = set()
    for number, entry in enumerate(entries, start=1):
        word, gloss = entry.get("form", ""), " ".join(entry.get("sense", "").split())
        if gloss and (word, gloss) not in seen:
            seen.add((word, gloss))
            yield Sense(number, word, gloss, float(entry.get("polarity", "0")))
