"""The sentiment of English word senses: the public-domain (PDDL) lexicon inside the package textblob.

De Smedt & Daelemans, "Vreselijk mooi! A Subjectivity Lexicon for Dutch Adjectives" (2012) and its English
sibling: each sense of a word has a gloss and a polarity from -1 to 1 given by people. 1,516 senses are
clearly positive or negative; all senses of a word are one group.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from retrainer.data.sources._package import package_file, verified_bytes
from retrainer.settings import Source

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "en/en-sentiment.xml"
SHA256 = "0ca603db55570bab9b2865716a3696ede01e3da02b570c47628a9dbcc3b37d1e"
# At or below it people hardly agree on the sign.
NEUTRAL = 0.1


def files(source: Source) -> list[Path]:
    """The lexicon's file. Raises UserError when the package is not installed."""
    return [package_file(source, "textblob", FILE)]


def read(source: Source) -> Iterator[pa.Table]:
    """One table: text "word: gloss", labels, group (the word), origin."""
    import pyarrow as pa

    from retrainer.formats.dataset import SCHEMA

    path = files(source)[0]
    # The hash is checked first, so this XML is known and the plain parser is safe.
    senses = ElementTree.fromstring(verified_bytes(path, SHA256)).iter("word")
    seen: set[tuple[str, str]] = set()
    rows: dict[str, list[object]] = {name: [] for name in ("text", "labels", "group", "origin", "given_test")}
    for number, sense in enumerate(senses, start=1):
        word, gloss = sense.get("form", ""), " ".join(sense.get("sense", "").split())
        # Some senses are listed again with another annotator's figures; the first listing counts.
        if not gloss or (word, gloss) in seen:
            continue
        seen.add((word, gloss))
        polarity = float(sense.get("polarity", "0"))
        if abs(polarity) <= NEUTRAL:
            continue
        rows["text"].append(f"{word}: {gloss}")
        rows["labels"].append(["positive" if polarity > 0 else "negative"])
        rows["group"].append(word)
        rows["origin"].append(f"{path.name}:row {number}")
        rows["given_test"].append(False)
    yield pa.table({name: pa.array(values, SCHEMA.get(name, pa.bool_())) for name, values in rows.items()})
