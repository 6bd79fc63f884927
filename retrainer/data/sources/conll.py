"""CoNLL files: a word a line with its columns, a blank line between two sentences. UTF-8.

    EU       NNP  B-NP  B-ORG      columns divided by tabs, or else by spaces: the first one is the word,
    rejects  VBZ  B-VP  O          the last one its tag; others by number (from 1): text: 1, tags: 2

    1  They  they  PRON  …         CoNLL-U (ten columns, divided by tabs): FORM and UPOS; others likewise
    1-2, 8.1                       its ranges of words and empty nodes are no words, and are passed over

A line that begins with # before a sentence's first word, and has not as many columns as words have, is a
comment. Sentences of one document are one group, where the file names several documents: by lines of
-DOCSTART-, or by the comments `# newdoc …`. Words with a space in them stay whole.

`path` may be a folder of such files; train, dev and test among them are the splits, as of tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from retrainer.data.sources._columns import MAX_TEXT_CHARACTERS, ROWS_PER_CHUNK, given_parts
from retrainer.data.sources._splits import given_columns
from retrainer.errors import DataError, SettingError
from retrainer.formats.words import TAB, join_words
from retrainer.settings import Section, Source

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".conll", ".conllu", ".bio", ".iob", ".iob2")
_DOCUMENT, _NEW_DOCUMENT = "-DOCSTART-", "# newdoc"
_CONLLU_COLUMNS = 10
# A sentence is read as one text; what has more words is another kind of file, or lacks its blank lines.
MOST_WORDS = 10_000


class Options(Section):
    """Further keys of `source:`."""

    tags: int = Field(0, ge=0, description="number of the tags' column, from 1; 0: the usual one")
    documents: bool = Field(
        True, description="sentences of one document (-DOCSTART-, # newdoc) are one group and share a split"
    )


class Sentence(NamedTuple):
    """`line`: that of its first word, from 1. `document`: how many documents began before it."""

    words: list[str]
    tags: list[str]
    line: int
    document: int


@dataclass(frozen=True)
class Layout:
    """Where a file's columns are, which its first word tells."""

    divider: str  # a tab, or a space
    count: int
    word: int
    tag: int

    @property
    def conllu(self) -> bool:
        return self.divider == TAB and self.count == _CONLLU_COLUMNS


def files(source: Source) -> list[Path]:
    """The file, or those of the folder, and of `test_path`."""
    return [file for file, _ in given_parts(source, SUFFIXES)]


def read(source: Source) -> Iterator[pa.Table]:
    """Tables of `text` (see `retrainer.formats.words`), `tags` and, of several documents, `group`. Raises
    UserError naming the file and line that cannot be read."""
    for file, split in given_parts(source, SUFFIXES):
        found = list(sentences(file, source))
        if not found:
            raise DataError(f"{file.name} has no sentence in it; give a word and its tag a line")
        grouped = Options.parse(source.options, "source").documents and found[-1].document > 1
        for start in range(0, len(found), ROWS_PER_CHUNK):
            yield _table(found[start : start + ROWS_PER_CHUNK], file, split, grouped)


def sentences(file: Path, source: Source) -> Iterator[Sentence]:
    """Every sentence of the file, in its order."""
    state = _Reader(file.name, source)
    for number, line in _lines(file):
        if (made := state.take(number, line)) is not None:
            yield made
    if (made := state.end()) is not None:
        yield made


@dataclass
class _Reader:
    """What has been read of the sentence that is not yet whole."""

    name: str
    source: Source
    layout: Layout | None = None
    words: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    line: int = 0
    document: int = 0

    def take(self, number: int, line: str) -> Sentence | None:
        """The sentence that ends before this line, if one does."""
        if not line.strip():
            return self.end()
        divider = self.layout.divider if self.layout else TAB if TAB in line else " "
        columns = _columns(line, divider)
        if columns[0] == _DOCUMENT or (line.startswith(_NEW_DOCUMENT) and not self.words):
            return self._begin_document(number, columns, divider)
        if not self._is_comment(columns):
            self._add(number, columns, divider)
        return None

    def end(self) -> Sentence | None:
        """The sentence so far, if it has a word."""
        if not self.words:
            return None
        made = Sentence(self.words, self.tags, self.line, self.document)
        self.words, self.tags = [], []
        return made

    def _begin_document(self, number: int, columns: list[str], divider: str) -> Sentence | None:
        """The sentence that ends with the document before. A document's line has as many columns as words."""
        if self.layout is None and columns[0] == _DOCUMENT and len(columns) > 1:
            self.layout = _layout(columns, divider, self.source, f"{self.name}:line {number}")
        ended = self.end()
        self.document += 1
        return ended

    def _is_comment(self, columns: list[str]) -> bool:
        if not columns[0].startswith("#") or self.words:
            return False
        # Of a file that begins with #, nothing tells yet how many columns its words have.
        return self.layout is None or self.layout.conllu or len(columns) != self.layout.count

    def _add(self, number: int, columns: list[str], divider: str) -> None:
        where = f"{self.name}:line {number}"
        if self.layout is None:
            self.layout = _layout(columns, divider, self.source, where)
        if len(columns) != self.layout.count:
            raise DataError(
                f"{where}: {len(columns)} columns, and the lines before have {self.layout.count}; give every"
                " word the same columns, and put a blank line behind each sentence"
            )
        if self.layout.conllu and not columns[0].isdecimal():
            return
        word, tag = columns[self.layout.word], columns[self.layout.tag]
        if not word or not tag:
            raise DataError(f"{where}: the {'tag' if word else 'word'} is empty; write one, or O for no tag")
        if len(self.words) == MOST_WORDS:
            raise DataError(
                f"{where}: more than {MOST_WORDS:,} words without a blank line; put one behind each sentence"
            )
        self.line = self.line if self.words else number
        self.words.append(word)
        self.tags.append(tag)


def _columns(line: str, divider: str) -> list[str]:
    """Several spaces divide as one does; other white space, as in Asian texts, may be a word."""
    parts = [part.strip(" ") for part in line.split(divider)]
    return parts if divider == TAB else [part for part in parts if part]


def _layout(columns: list[str], divider: str, source: Source, where: str) -> Layout:
    """By the first word's columns. Raises UserError where there is no such column."""
    count = len(columns)
    conllu = divider == TAB and count == _CONLLU_COLUMNS
    tags = Options.parse(source.options, "source").tags
    word = _number("text", "" if source.text == "text" else source.text, count, 2 if conllu else 1)
    tag = _number("tags", str(tags or ""), count, 4 if conllu else count)
    if word == tag:
        raise DataError(
            f"{where}: one column is both word and tag; write a word and its tag a line, divided by a tab or"
            " a space, or name the columns' numbers by source.text and source.tags"
        )
    return Layout(divider, count, word - 1, tag - 1)


def _number(setting: str, given: str, count: int, usual: int) -> int:
    """The number of a column, from 1: as the settings say, else the usual one."""
    if not given:
        return usual
    if not given.isdecimal() or not 1 <= int(given) <= count:
        raise SettingError(
            f"source.{setting}: {given} is no column here; set the number of one, from 1 to {count}"
        )
    return int(given)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Number and text of every line, without its end; only a line feed ends one."""
    with file.open("rb") as stream:
        for number, line in enumerate(iter(lambda: stream.readline(MAX_TEXT_CHARACTERS), b""), start=1):
            where = f"{file.name}:line {number}"
            if len(line) == MAX_TEXT_CHARACTERS:
                raise DataError(f"{where}: it is too long for a word and its tag; is this a CoNLL file?")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                raise DataError(f"{where}: not UTF-8 text; save the file as UTF-8") from None
            if "\0" in text:
                raise DataError(f"{where}: a NUL character; save the file as UTF-8 text")
            yield number, text


def _table(found: Sequence[Sentence], file: Path, split: str, grouped: bool) -> pa.Table:
    import pyarrow as pa

    from retrainer.formats.columns import TYPES

    columns = {
        "text": pa.array([join_words(one.words) for one in found], pa.string()),
        "tags": pa.array([one.tags for one in found], TYPES["strings"]),
        "origin": pa.array([f"{file.name}:line {one.line}" for one in found], pa.string()),
        **given_columns([split] * len(found)),
    }
    if grouped:
        names = [f"{file.name}:document {one.document}" for one in found]
        columns["group"] = pa.array(names, pa.string())
    return pa.table(columns)
