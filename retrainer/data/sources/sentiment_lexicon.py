"""The sentiment of English word senses, good or bad: 1,516 of the lexicon's senses are clearly one of them.

All senses of a word are one group. `word_polarity` has the polarities of all senses as numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.data.sources._lexicon import lexicon_file, senses
from retrainer.settings import Source

if TYPE_CHECKING:
    import pyarrow as pa

# At or below it people hardly agree on the sign.
NEUTRAL = 0.1


def files(source: Source) -> list[Path]:
    """The lexicon's file. Raises UserError when the package is not installed."""
    return [lexicon_file(source)]


def read(source: Source) -> Iterator[pa.Table]:
    """One table: text "word: gloss", labels, group (the word), origin."""
    import pyarrow as pa

    from retrainer.formats.dataset import SCHEMA

    path = lexicon_file(source)
    clear = [sense for sense in senses(path) if abs(sense.polarity) > NEUTRAL]
    labels = [["positive" if sense.polarity > 0 else "negative"] for sense in clear]
    yield pa.table(
        {
            "text": pa.array([f"{sense.word}: {sense.gloss}" for sense in clear], SCHEMA["text"]),
            "labels": pa.array(labels, SCHEMA["labels"]),
            "group": pa.array([sense.word for sense in clear], SCHEMA["group"]),
            "origin": pa.array([f"{path.name}:row {sense.number}" for sense in clear], SCHEMA["origin"]),
            "given_test": pa.array([False] * len(clear), pa.bool_()),
        }
    )
