"""JSON Lines of divided sentences, one a line: {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]}.

`path` is a file in UTF-8, or a folder in which train, dev and test are the splits. `text` and `tags` name the
two keys, where they have other names; `tag_names` says what numbers in the place of tags mean. Other keys are
read as of jsonl.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from retrainer.data.sources import jsonl
from retrainer.data.sources._columns import Chunk, given_parts, name_of, read_tables
from retrainer.errors import DataError
from retrainer.formats.words import TAB, join_words
from retrainer.settings import Section, Source

if TYPE_CHECKING:
    import pyarrow as pa


class Options(Section):
    """Further keys of `source:`."""

    tags: str = Field("tags", description="the key of the list of tags")
    tag_names: tuple[str, ...] = Field(
        (), description="the names of tags that are written as numbers, from 0: [O, B-PER, I-PER]"
    )


def files(source: Source) -> list[Path]:
    """The JSONL files."""
    return [file for file, _ in given_parts(source, jsonl.SUFFIXES)]


def read(source: Source) -> Iterator[pa.Table]:
    """Tables of `text` (see `retrainer.formats.words`) and `tags`. Raises UserError naming file and row for
    what cannot be parsed."""
    named = source if source.text != "text" else source.model_copy(update={"text": "tokens"})
    return read_tables(named, jsonl.SUFFIXES, _chunks)


def _chunks(file: Path, source: Source) -> Iterator[Chunk]:
    names = Options.parse(source.options, "source").tag_names
    for rows, values in jsonl.chunks(file, source):
        places = [f"{file.name}:row {row}" for row in rows]
        key = name_of(source, "text")
        texts = [_joined(one, key, place) for one, place in zip(values["text"], places, strict=True)]
        named = [_named(one, names, place) for one, place in zip(values["tags"], places, strict=True)]
        yield rows, values | {"text": texts, "tags": named}


def _joined(tokens: Any, key: str, place: str) -> str | None:
    """The words as one text; None where the row has none."""
    if tokens is None or tokens == []:
        return None
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise DataError(f'{place}: {key!r} is no list of words; write one, as ["EU", "rejects"]')
    words = [token.replace(TAB, " ").strip() for token in tokens]
    if "" in words:
        raise DataError(f"{place}: {key!r} holds an empty word; remove it and its tag")
    return join_words(words)


def _named(tags: Any, names: tuple[str, ...], place: str) -> Any:
    """Numbers as names, where the settings tell those; else the tags as they are."""
    if not isinstance(tags, list):
        return tags
    if names:
        tags = [names[tag] if _is_number(tag, len(names)) else tag for tag in tags]
    if strange := [tag for tag in tags if not isinstance(tag, str) or not tag.strip()]:
        cure = "; say by source.tag_names what numbers mean" if isinstance(strange[0], int) else ""
        raise DataError(f"{place}: {strange[0]!r} is no tag{cure}")
    return tags


def _is_number(tag: Any, count: int) -> bool:
    return isinstance(tag, int) and not isinstance(tag, bool) and 0 <= tag < count
