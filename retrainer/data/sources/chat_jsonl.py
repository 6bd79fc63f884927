"""JSON Lines of conversations, one a line: {"messages": [{"role": "user", "content": "Hi"}, …]}.

What the assistant says last is the answer, `target_text`; what stands before it is `text`, the conversation
as JSON, for `task: {kind: text_generation, messages: true}`. A conversation without an answer is left out.
`text` names the key, where it has another name; other keys are read as of jsonl.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.data.sources import jsonl
from retrainer.data.sources._columns import Chunk, given_parts, name_of, read_tables
from retrainer.errors import DataError
from retrainer.settings import Section, Source

if TYPE_CHECKING:
    import pyarrow as pa

_ROLES = ("system", "user", "assistant")


class Options(Section):
    """The source has no further keys."""


def files(source: Source) -> list[Path]:
    """The JSONL files."""
    return [file for file, _ in given_parts(source, jsonl.SUFFIXES)]


def read(source: Source) -> Iterator[pa.Table]:
    """Tables of `text` and `target_text`. Raises UserError naming file and row of what is no conversation."""
    key = "messages" if source.text == "text" else source.text
    columns = source.columns | {"target_text": "string?"}  # no key of the file has it
    named = source.model_copy(update={"text": key, "columns": columns})
    return read_tables(named, jsonl.SUFFIXES, _chunks)


def _chunks(file: Path, source: Source) -> Iterator[Chunk]:
    key = name_of(source, "text")
    for rows, values in jsonl.chunks(file, source):
        places = [f"{file.name}:row {row}" for row in rows]
        parted = [_parted(one, key, place) for one, place in zip(values["text"], places, strict=True)]
        texts, answers = ([row[side] for row in parted] for side in range(2))
        yield rows, values | {"text": texts, "target_text": answers}


def _parted(messages: Any, key: str, place: str) -> tuple[str | None, str | None]:
    """The conversation up to the last answer, and that answer; None where there is none."""
    said = [_message(one, key, place) for one in _listed(messages, key, place)]
    answers = [number for number, one in enumerate(said) if one["role"] == "assistant"]
    if not answers or not answers[-1]:
        return None, None
    return json.dumps(said[: answers[-1]], ensure_ascii=False), said[answers[-1]]["content"]


def _listed(messages: Any, key: str, place: str) -> list[Any]:
    if messages is None:
        return []
    if not isinstance(messages, list):
        raise DataError(f'{place}: {key!r} is no list of messages, as [{{"role": "user", "content": …}}, …]')
    return messages


def _message(message: Any, key: str, place: str) -> dict[str, str]:
    given = message if isinstance(message, dict) else {}
    role, content = given.get("role"), given.get("content")
    if role not in _ROLES or not isinstance(content, str):
        raise DataError(
            f"{place}: a message in {key!r} needs a role ({', '.join(_ROLES)}) and a content, which is text"
        )
    return {"role": role, "content": content}
