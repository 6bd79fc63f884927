"""Banking77's questions as they would reach a bank month by month, and what may happen to a month's file.

Casanueva et al., Efficient Intent Detection with Dual Sentence Encoders, 2020; CC BY 4.0.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from retrainer.errors import DataError
from retrainer.formats.files import sha256_file

TEXT, LABEL = "text", "category"
MONTHS = 12
_ADDRESS = (
    "https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/"
    "57ec275d8078af65b7731c2a98be812d844a6d6b/banking_data"
)
SHA256 = {
    "train.csv": "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
    "test.csv": "d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d",
}
# A service that the bank offers from June on.
NEW_CLASS, NEW_FROM, NEW_UNTIL = "apple_pay_or_google_pay", 5, 9
_LONG_WORD = 8


class Row(NamedTuple):
    text: str
    label: str


Arrivals = Sequence[Sequence[Row]]


def read_banking77(folder: Path, name: str) -> list[Row]:
    """The questions of `train.csv` or `test.csv`. Raises DataError where there is none, or another."""
    path = folder / name
    if not path.is_file():
        raise DataError(
            f"{path}: Banking77 is not here, and nothing is downloaded unasked; fetch train.csv and test.csv"
            f" from {_ADDRESS}/ (1 MB, CC BY 4.0; PolyAI/banking77 on Hugging Face) into a folder, then"
            " make year DATA=folder"
        )
    if sha256_file(path) != SHA256[name]:
        raise DataError(f"{path} is not Banking77's {name}: its sha256 is not {SHA256[name]}; see {_ADDRESS}")
    return read_rows(path)


def read_rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as stream:
        return [Row(row[TEXT], row[LABEL]) for row in csv.DictReader(stream)]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([TEXT, LABEL])
        writer.writerows(rows)


def arrivals(rows: Iterable[Row], seed: int = 0, new_class: str = NEW_CLASS) -> list[list[Row]]:
    """The rows that come in each of the twelve months, an equal share of every class; `new_class` from June.

    They are drawn class by class, so that a month differs from others by what is planted and not by chance.
    """
    draw = random.Random(seed)
    by_class: dict[str, list[Row]] = {}
    for row in rows:
        by_class.setdefault(row.label, []).append(row)
    months: list[list[Row]] = [[] for _ in range(MONTHS)]
    for label, members in sorted(by_class.items()):
        draw.shuffle(members)
        first, end = (NEW_FROM, NEW_UNTIL) if label == new_class else (0, MONTHS)
        offset = draw.random()
        for number, row in enumerate(members):
            months[first + int((number + offset) * (end - first) / len(members)) % (end - first)].append(row)
    for month in months:
        draw.shuffle(month)
    return months


# --- what happens to rows -----------------------------------------------------------------------------------


def typed_on_a_phone(row: Row) -> Row:
    """Lower case, no punctuation, and in every long word two letters in each other's place."""
    words = "".join(sign for sign in row.text.lower() if sign.isalnum() or sign.isspace()).split()
    return row._replace(text=" ".join(map(_mistyped, words)))


def _mistyped(word: str) -> str:
    if len(word) < _LONG_WORD:
        return word
    at = sum(map(ord, word)) % (len(word) - 2) + 1
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def mislabelled(rows: Sequence[Row], share: float, seed: int = 0) -> list[Row]:
    """A share of the rows, drawn at random, has the class of another row."""
    draw = random.Random(seed)
    labels = [row.label for row in rows]
    return [row._replace(label=draw.choice(labels)) if draw.random() < share else row for row in rows]


def with_its_queue(row: Row) -> Row:
    """The name of the desk that answered, which is the label, before the text."""
    return row._replace(text=f"[{row.label}] {row.text}")
