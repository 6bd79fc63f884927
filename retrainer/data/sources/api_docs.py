"""Sentences of web services' documentation inside the package botocore (Apache-2.0), tagged by their markup.

What the writers set as code is a span of CODE, the title to which they link one of LINK. Each release of
botocore has other sentences: the lock names that of the recipe's figures. A sentence counts once.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from retrainer.data.sources._package import package_file
from retrainer.errors import SettingError, nearest
from retrainer.formats.words import join_words, words_of
from retrainer.settings import Section, Source

if TYPE_CHECKING:
    import pyarrow as pa

_KINDS = {"code": "CODE", "a": "LINK"}
_BLOCKS = frozenset(("p", "li", "ul", "ol", "note", "important", "dl", "dt", "dd", "br", "h2", "h3", "pre"))
_FEWEST, _MOST = 5, 50

# A word and its tag.
Word = tuple[str, str]


class Options(Section):
    """Further keys of `source:`."""

    services: tuple[str, ...] = Field(
        ("kms", "lambda", "sns", "sqs"), min_length=1, description="whose documentation, by botocore's names"
    )


def files(source: Source) -> list[Path]:
    """The newest description of each service. Raises UserError when the package is not installed."""
    data = package_file(source, "botocore", "data/endpoints.json").parent
    return [_newest(data, name) for name in Options.parse(source.options, "source").services]


def read(source: Source) -> Iterator[pa.Table]:
    """A table a service: text (see `retrainer.formats.words`), tags, origin."""
    import pyarrow as pa

    from retrainer.formats.columns import TYPES

    seen: set[str] = set()
    for file in files(source):
        texts, tags = [], []
        for sentence in _sentences(json.loads(gzip.decompress(file.read_bytes()))):
            text = join_words(word for word, _ in sentence)
            if _FEWEST <= len(sentence) <= _MOST and text not in seen:
                seen.add(text)
                texts.append(text)
                tags.append([tag for _, tag in sentence])
        origins = [f"{file.parent.parent.name}:sentence {number}" for number in range(1, len(texts) + 1)]
        yield pa.table(
            {
                "text": pa.array(texts, pa.string()),
                "tags": pa.array(tags, TYPES["strings"]),
                "origin": pa.array(origins, pa.string()),
            }
        )


def _newest(data: Path, service: str) -> Path:
    known = sorted(path.parent.parent.name for path in data.glob("*/*/service-2.json.gz"))
    if service not in known:
        raise SettingError(f"source.services: botocore knows no {service!r}{nearest(service, known)}")
    return max((data / service).glob("*/service-2.json.gz"))


def _sentences(description: Any) -> Iterator[list[Word]]:
    """Of every documentation text in the description, in its order."""
    for text in _texts(description):
        reader = _Reader()
        reader.feed(text)
        reader.close()
        reader.end_block()
        for block in reader.blocks:
            sentence: list[Word] = []
            for word in block:
                sentence.append(word)
                if word == (".", "O"):
                    yield sentence
                    sentence = []
            if sentence:
                yield sentence


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            if key == "documentation" and isinstance(one, str):
                yield one
            else:
                yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


class _Reader(HTMLParser):
    """`blocks`: the words of each paragraph or item."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[list[Word]] = []
        self._words: list[Word] = []
        self._kind = ""
        self._begun = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002
        if tag in _KINDS:
            self._kind, self._begun = _KINDS[tag], False
        elif tag in _BLOCKS:
            self.end_block()

    def handle_endtag(self, tag: str) -> None:
        if tag in _KINDS:
            self._kind = ""
        elif tag in _BLOCKS:
            self.end_block()

    def handle_data(self, data: str) -> None:
        for word in words_of(" ".join(data.split())):
            letter = "I" if self._begun else "B"
            self._words.append((word, f"{letter}-{self._kind}" if self._kind else "O"))
            self._begun = bool(self._kind)

    def end_block(self) -> None:
        """The words so far are one; none, if there are none."""
        if self._words:
            self.blocks.append(self._words)
        self._words, self._kind = [], ""
