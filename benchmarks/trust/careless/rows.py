"""Last month's rows and this month's, of Banking77, CIFAR-10 and FSDD.

A company retrains each month on what it had and what came since, and tests on files of its own: test.csv, the
folder test/, or the recordings of a speaker who is heard in the test alone.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.trust import _real_rows

Draw = np.random.Generator
TEXT, IMAGE, SOUND = "texts", "images", "sounds"
INTENTS = """
cancel_transfer card_arrival card_delivery_estimate card_linking card_not_working declined_card_payment
declined_transfer failed_transfer pending_top_up pending_transfer top_up_failed top_up_reverted
transfer_not_received_by_recipient transfer_timing verify_top_up
"""
# Classes that nobody knows yet: the rows of the mistake "a class is new".
LATER = {TEXT: "exchange_rate", IMAGE: "truck", SOUND: "9"}
TESTED_SPEAKER = "theo"


@dataclass(frozen=True)
class Row:
    """`content`: the text, or the file's bytes. `name` is its file's stem, of sounds a number."""

    content: Any
    label: str
    name: str
    group: str = ""
    further: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Month:
    """What a month's export holds, and how it is written. `settings`: section → keys, beside the usual ones.

    header     the names of the columns of the text and the label
    folders    of images: name of a row → the folders above the class's
    seeds      so many other seeds are trained, until one wins
    """

    train: tuple[Row, ...]
    test: tuple[Row, ...]
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    header: tuple[str, str] = ("text", "label")
    delimiter: str = ","
    encoding: str = "utf-8"
    suffix: str = ""
    folders: dict[str, str] = field(default_factory=dict)
    seeds: int = 0

    def with_settings(self, **sections: dict[str, Any]) -> Month:
        merged = {name: {**self.settings.get(name, {}), **keys} for name, keys in sections.items()}
        return replace(self, settings={**self.settings, **merged})


@dataclass
class World:
    """Rows of one dataset. `pool`: what may come this month; `later`: rows of a class that nobody knows yet.

    outside     rows that no month holds: what a model truly knows of a class
    predicted   labels that last month's champion gives to rows, and how sure it is (set once it is trained)
    trained     (rows to train on) → the directory of a model that was trained on them
    """

    kind: str
    last: tuple[Row, ...]
    pool: tuple[Row, ...]
    test: tuple[Row, ...]
    later: tuple[Row, ...]
    outside: tuple[Row, ...] = ()
    predicted: Callable[[Sequence[Row]], tuple[list[str], np.ndarray]] | None = None
    trained: Callable[[Month], Path] | None = None

    def last_month(self) -> Month:
        return Month(self.last, self.test)

    def this_month(self, draw: Draw) -> Month:
        """Last month's rows and half of what may come."""
        came = draw.permutation(len(self.pool))[: len(self.pool) // 2]
        return Month((*self.last, *(self.pool[int(row)] for row in sorted(came))), self.test)


@dataclass(frozen=True)
class Case:
    """This month's export as it should be, and whatever a mistake needs beside it."""

    month: Month
    world: World
    draw: Draw


def this_month(rows: World, seed: int) -> Case:
    """The month as it should be, before a mistake or a change is made to it."""
    draw = np.random.default_rng(seed)
    return Case(rows.this_month(draw), rows, draw)


@cache
def world(kind: str) -> World:
    """One world a dataset, always the same."""
    return {TEXT: _texts, IMAGE: _images, SOUND: _sounds}[kind]()


def _mixed(rows: Sequence[Row], seed: int = 0) -> list[Row]:
    return [rows[int(row)] for row in np.random.default_rng(seed).permutation(len(rows))]


def _texts() -> World:
    """15 intents that are easily taken for each other. The three questions that stand in both of Banking77's
    files are left out of the training rows, as a person did last month."""
    parts = {part: _mixed(_banking(part)) for part in ("train", "test")}
    tested = {_folded(row.content) for row in parts["test"]}
    rows = [row for row in parts["train"] if _folded(row.content) not in tested]
    known = [row for row in rows if row.label != LATER[TEXT]]
    test = [row for row in parts["test"] if row.label != LATER[TEXT]]
    later = [row for row in rows if row.label == LATER[TEXT]]
    last, pool, outside = known[:1000], known[1000:1700], [*known[1700:], *test[450:]]
    return World(TEXT, tuple(last), tuple(pool), tuple(test[:450]), tuple(later), tuple(outside))


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _banking(part: str) -> list[Row]:
    with (_real_rows.DATA / "banking77" / f"{part}.csv").open(encoding="utf-8", newline="") as file:
        records = [
            record for record in csv.DictReader(file) if record["category"] in (*INTENTS.split(), LATER[TEXT])
        ]
    return [Row(one["text"], one["category"], f"{part}{n:05}") for n, one in enumerate(records)]


def _images() -> World:
    """90 images a class last month, 80 that may come, 45 in the test; outside 1,000 of the dataset's test."""
    by_class = _pictures(_real_rows.cifar10(3000))
    later = by_class.pop(LATER[IMAGE])[:60]
    tested = _pictures([one for one in _real_rows.cifar10() if "/test/" in f"/{one['origin']}"])
    outside = [row for name, rows in tested.items() if name != LATER[IMAGE] for row in rows]
    last, pool, test = (
        [r for rs in by_class.values() for r in rs[a:b]] for a, b in ((0, 90), (90, 170), (170, 215))
    )
    mixed = [tuple(_mixed(rows)) for rows in (last, pool, test)]
    return World(IMAGE, mixed[0], mixed[1], mixed[2], tuple(later), tuple(outside))


def _pictures(found: Sequence[dict[str, Any]]) -> dict[str, list[Row]]:
    """By class."""
    by_class: dict[str, list[Row]] = {}
    for n, one in enumerate(found):
        row = Row(one["image"]["bytes"], one["labels"][0], f"{n:05}")
        by_class.setdefault(row.label, []).append(row)
    return by_class


def _sounds() -> World:
    """Of five speakers 12 recordings of each digit last month and 10 that may come; 20 of a sixth to test."""
    last: list[Row] = []
    pool: list[Row] = []
    test: list[Row] = []
    later: list[Row] = []
    outside: list[Row] = []
    for one in _real_rows.fsdd():
        digit, speaker, index = Path(one["origin"]).stem.split("_")
        row = Row(one["audio"]["bytes"], digit, index, speaker)
        if digit == LATER[SOUND]:
            later += [row] if int(index) < 15 else []
        elif speaker == TESTED_SPEAKER:
            (test if int(index) < 20 else outside).append(row)
        elif int(index) < 22:
            (last if int(index) < 12 else pool).append(row)
    parts = [tuple(_mixed(rows)) for rows in (last, pool, test, later, outside)]
    return World(SOUND, parts[0], parts[1], parts[2], parts[3], parts[4])
