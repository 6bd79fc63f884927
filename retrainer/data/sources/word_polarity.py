"""How good or bad English word senses are, from -1 to 1 as people rated them: all 2,637 of the lexicon.

922 of them are rated 0. All senses of a word are one group.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.data.sources._lexicon import lexicon_file, senses
from retrainer.settings import Source

if TYPE_CHECKING:
    import pyarrow as pa


def files(source: Source) -> list[Path]:
    """The lexicon's file. Raises UserError when the package is not installed."""
    return [lexicon_file(source)]


def read(source: Source) -> Iterator[pa.Table]:
    """One table: text "word: gloss", target (the polarity), group (the word), origin."""
    import pyarrow as pa

    path = lexicon_file(source)
    found = list(senses(path))
    yield pa.table(
        {
            "text": pa.array([f"{sense.word}: {sense.gloss}" for sense in found], pa.string()),
            "target": pa.array([sense.polarity for sense in found], pa.float64()),
            "group": pa.array([sense.word for sense in found], pa.string()),
            "origin": pa.array([f"{path.name}:row {sense.number}" for sense in found], pa.string()),
        }
    )
