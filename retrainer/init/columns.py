"""What the columns of a table are for, told by their names and values.

A name that says it decides (`label`, `review`, `customer_id`); else the values do: the longest texts are the
text, the column of few values is the label. Every choice comes with its reason and with what else could be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from retrainer.data.sources._folders import IMAGE_SUFFIXES
from retrainer.errors import DataError
from retrainer.formats.audio import SUFFIXES as SOUND_SUFFIXES
from retrainer.init.found import shown

TEXTS: tuple[str, ...] = (
    "text",
    "sentence",
    "review",
    "body",
    "comment",
    "message",
    "content",
    "question",
    "utterance",
)
TEXTS += ("tweet", "document", "description", "query", "premise", "sentence1", "question1", "title")
PAIRS: tuple[tuple[str, str], ...] = (
    ("text", "text_pair"),
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
)
PAIRS += (("question1", "question2"), ("query", "passage"), ("question", "answer"), ("question", "context"))
LABELS: tuple[str, ...] = (
    "label",
    "labels",
    "class",
    "category",
    "target",
    "intent",
    "sentiment",
    "topic",
    "tag",
    "tags",
)
LABELS += ("y", "rating", "score", "emotion", "genre", "species", "price", "value")
GROUPS: tuple[str, ...] = (
    "group",
    "user",
    "customer",
    "patient",
    "speaker",
    "author",
    "session",
    "thread",
    "account",
)
GROUPS += ("subject", "client", "household", "seller", "conversation")
TRANSCRIPTS: tuple[str, ...] = ("text", "transcript", "transcription", "sentence", "words")
TRANSLATIONS: tuple[tuple[str, str], ...] = (
    ("text", "target_text"),
    ("source_text", "target_text"),
    ("source", "target"),
    ("src", "tgt"),
)
TIMES: tuple[str, ...] = (
    "time",
    "date",
    "day",
    "timestamp",
    "datetime",
    "created",
    "created_at",
    "updated_at",
    "month",
)
IDS: tuple[str, ...] = ("id", "uuid", "guid", "row_id", "key", "index", "row", "unnamed: 0")
# Rows of one group share one split: of fewer groups none could be spared for the test.
FEWEST_GROUPS = 10
_LANGUAGE = re.compile(r"[a-z]{2}([_-][A-Za-z]{2})?")
# Whole numbers of so many values are read as classes (ratings from 1 to 5), of more as a number.
MOST_NUMBERED_CLASSES = 20
_DATE = re.compile(r"\d{4}-\d{2}(-\d{2})?([T ]\d{2}:\d{2}.*)?|\d{1,2}[./]\d{1,2}[./]\d{4}")
_ENDS_IN_ID = re.compile(r"[_ -]id$", re.IGNORECASE)
_SEPARATORS = ("|", ";", ",")


@dataclass(frozen=True)
class Column:
    """A column's name, and its values as they stood, of at least one row."""

    name: str
    values: Sequence[Any]

    @cached_property
    def filled(self) -> list[Any]:
        return [value for value in self.values if value is not None and value != "" and value != []]

    @cached_property
    def words(self) -> list[str]:
        return [value.strip() for value in self.filled if isinstance(value, str)]

    @cached_property
    def distinct(self) -> int:
        return len({str(value) for value in self.filled})

    @cached_property
    def numbers(self) -> list[float]:
        """Its values as numbers; [] where one is none."""
        try:
            return [float(value) for value in self.filled if not isinstance(value, bool)]
        except (TypeError, ValueError):
            return []

    @property
    def words_a_row(self) -> float:
        return sum(len(text.split()) for text in self.words) / max(len(self.filled), 1)

    @property
    def lists(self) -> bool:
        return any(isinstance(value, list) for value in self.filled)

    @property
    def repeats(self) -> bool:
        return 1 < self.distinct <= 0.95 * len(self.filled)

    @property
    def dated(self) -> bool:
        return bool(self.words) and all(_DATE.fullmatch(word) for word in self.words)

    @property
    def file_of(self) -> str:
        """`image` or `audio` where it holds such files, or the names of such files."""
        for what, suffixes in (("image", IMAGE_SUFFIXES), ("audio", SOUND_SUFFIXES)):
            named = sum(PurePosixPath(word).suffix.lower() in suffixes for word in self.words)
            if named and named >= 0.9 * len(self.filled):
                return what
        if not self.filled or not all(map(_is_encoded, self.filled)):
            return ""
        return "audio" if "audio" in self.name.lower() else "image"

    @property
    def separator(self) -> str:
        """What divides several labels in one value, "" where nothing does."""
        for mark in _SEPARATORS:
            divided = [word.split(mark) for word in self.words if mark in word]
            parts = {part.strip() for one in divided for part in one}
            if len(divided) >= 0.05 * len(self.filled) and 2 <= len(parts) <= self.distinct:
                return mark
        return ""


def _is_encoded(value: Any) -> bool:
    """Whether it is a file's bytes, as they are or as Hugging Face `datasets` keeps them."""
    return isinstance(value, bytes) or (isinstance(value, dict) and value.keys() == {"bytes", "path"})


@dataclass
class Roles:
    """Role (text, label, group, …) → its column; `why`: role → the reason and what else could be."""

    columns: Sequence[Column]
    chosen: dict[str, Column] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)

    @property
    def left(self) -> list[Column]:
        taken = {column.name for column in self.chosen.values()}
        return [column for column in self.columns if column.name not in taken and column.filled]

    def take(self, role: str, found: Sequence[Column], reason: str) -> None:
        """Gives the role to the first of them; the others are what else it could be."""
        if found:
            others = [f"'{column.name}'" for column in found[1:]]
            self.chosen[role] = found[0]
            self.why[role] = reason + (f"; it could also be {shown(others)}" if others else "")


def roles_of(columns: Sequence[Column], given: Mapping[str, str], title: str) -> Roles:
    """What each column is for; `given`: role → the name that a person gave it.

    Raises DataError naming the columns where one that was named is not there.
    """
    roles = Roles(columns)
    for role, name in given.items():
        if name not in [column.name for column in columns]:
            there = shown([f"'{column.name}'" for column in columns], 20)
            raise DataError(f"{title} has no column '{name}' (source.{role}); its columns: {there}")
        roles.take(role, [column for column in columns if column.name == name], "as SET names it")
    for role, choose in _CHOICES:
        if role not in roles.chosen:
            choose(roles)
    return roles


def _files(roles: Roles) -> None:
    for what in ("image", "audio"):
        found = [column for column in roles.left if column.file_of == what]
        if what not in roles.chosen:
            roles.take(what, found, f"its values are {what} files")


def _id(roles: Roles) -> None:
    unique = [column for column in roles.left if column.distinct == len(column.values)]
    found = _named(unique, IDS) + [column for column in unique if _ENDS_IN_ID.search(column.name)]
    roles.take("id", found, "its name says so, and no value stands twice")


def _time(roles: Roles) -> None:
    named = [column for column in _named(roles.left, TIMES) if not column.words_a_row > 3]
    dated = [column for column in roles.left if column.dated and column not in named]
    roles.take("time", named + dated, "its name says so" if named else "its values are dates")


def _pair(roles: Roles) -> None:
    """Two columns of texts that belong together, by their names."""
    texts = {column.name.strip().lower(): column for column in roles.left if column.words_a_row >= 1.5}
    codes = [name for name in texts if _LANGUAGE.fullmatch(name)]
    pairs = [(one, other, "text_pair") for one, other in PAIRS]
    languages = [(codes[0], codes[1])] if len(codes) == 2 else []
    pairs += [(one, other, "target_text") for one, other in (*TRANSLATIONS, *languages)]
    for first, second, role in pairs:
        if first in texts and second in texts and "text" not in roles.chosen:
            roles.take("text", [texts[first]], "its name says so")
            roles.take(role, [texts[second]], f"the second text beside '{first}'")


def _text(roles: Roles) -> None:
    """Beside images a text is a remark, beside sounds it is what is said in them."""
    if "image" in roles.chosen:
        return
    written = [column for column in roles.left if column.words_a_row >= 1.5 and not column.numbers]
    if "audio" in roles.chosen:
        roles.take("target_text", _named(written, TRANSCRIPTS), "its name says so")
        return
    named = _named([c for c in roles.left if c.words_a_row >= 1 and not c.numbers], TEXTS)
    longest = [c for c in sorted(written, key=lambda c: -c.words_a_row) if c not in named and c.distinct > 1]
    roles.take("text", named + longest, "its name says so" if named else "its texts are the longest")


def _label(roles: Roles) -> None:
    named = _named(roles.left, LABELS)
    few = [column for column in roles.left if column not in named and _is_label(column)]
    # In most tables the label stands last.
    roles.take("label", named + few[::-1], "its name says so" if named else "few values, each of many rows")


def _is_label(column: Column) -> bool:
    if column.numbers:
        return column.distinct > 1
    return 2 <= column.distinct <= max(2, len(column.filled) // 3) and column.words_a_row < 6


def _group(roles: Roles) -> None:
    likely = [c for c in roles.left if c.repeats and c.distinct >= FEWEST_GROUPS and c.words_a_row <= 4]
    found = _named(likely, GROUPS)
    found += [column for column in likely if column not in found and _ENDS_IN_ID.search(column.name)]
    roles.take("group", found, "rows of one value belong together and share one split")


def _named(columns: Sequence[Column], names: Sequence[str]) -> list[Column]:
    """Those of these names, then those that have one as a word, in the names' order."""
    exact = [column for name in names for column in columns if column.name.strip().lower() == name]
    words = [
        column
        for name in names
        for column in columns
        if name in re.split(r"[\W_]+", column.name.lower()) and len(name) > 2
    ]
    return list({column.name: column for column in exact + words}.values())


# In this order: what is certain first, so that it is not taken for what is only likely.
_CHOICES: tuple[tuple[str, Callable[[Roles], None]], ...] = (
    ("files", _files),
    ("id", _id),
    ("time", _time),
    ("pair", _pair),
    ("text", _text),
    ("label", _label),
    ("group", _group),
)
