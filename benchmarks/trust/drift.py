"""How often the test of drift cries wolf, and how much drift it finds: on Banking77 and CIFAR-10.

    python -m benchmarks.trust.drift [banking77] [cifar10] [--trials 50] [--null 200] [--missing]

Each trial draws the champion's rows and new ones anew, without replacement, links near-duplicates within
either side as preprocess does, changes one side as the row says, and asks `retrainer.retraining.drift`. `no
drift` changes nothing: what is found there is false. Results: benchmarks/results/trust_drift.json, written
after every row; a data set that is not run keeps what it had, and with `--missing` so does a row.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import tarfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks._runs import ROOT, machine
from retrainer.data.near import near_duplicates
from retrainer.data.profile import Measured, measured, profile_of
from retrainer.data.splits import components, content_keys
from retrainer.data.task_columns import TaskColumns
from retrainer.findings import Findings
from retrainer.formats.dataset import SCHEMA
from retrainer.formats.row_keys import short
from retrainer.gate.intervals import wilson
from retrainer.retraining.drift import compare
from retrainer.settings import Checks

DATA = ROOT.parent / "shared" / "data"
RESULTS = ROOT / "benchmarks" / "results" / "trust_drift.json"
SEED, ALPHA = 2026, 0.05
CHAMPIONS_ROWS = 8000
# Rows of which there are changed copies: new rows of the trials that want some are drawn from these.
CHANGED_ROWS = 10_000


@dataclass(frozen=True)
class Data:
    """Rows, and what a trial needs of them. `numbers`: the measures of the rows, and of changed copies of the
    first ones, by what was changed."""

    table: pa.Table
    keys: list[bytes]
    labels: np.ndarray
    near: list[tuple[bytes, bytes]]
    numbers: dict[str, Measured]


@dataclass(frozen=True)
class Change:
    """What is done to the new rows: to one label, drawn for each trial, or to a share of them by a copy."""

    name: str
    rows: int
    label: str = ""
    copy: str = ""
    share: float = 1.0


CHANGES = {
    "banking77": [
        *(Change("no drift", rows) for rows in (300, 1000)),
        *(Change("an intent is dropped", rows, "dropped") for rows in (300, 1000, 2000)),
        *(Change("an intent is half as frequent", rows, "halved") for rows in (1000, 2000, 4000)),
        *(Change("an intent is new", rows, "new") for rows in (100, 300, 1000)),
        *(Change(f"{share:.0%} are of a new intent", 1000, "new", "", share) for share in (0.02, 0.05, 0.1)),
        *(Change(f"{share:.0%} in lower case", 1000, "", "lower case", share) for share in (0.05, 0.1, 0.3)),
    ],
    "cifar10": [
        *(Change("no drift", rows) for rows in (300, 1000)),
        *(Change("a class is dropped", rows, "dropped") for rows in (100, 300)),
        *(Change("a class is half as frequent", rows, "halved") for rows in (100, 300, 1000)),
        Change("a class is new", 100, "new"),
        *(Change(f"{share:.0%} are of a new class", 1000, "new", "", share) for share in (0.05, 0.1)),
        *(
            Change(f"{step} of 255 brighter", rows, "", f"{step} brighter")
            for rows, step in ((300, 4), (300, 8), (300, 16), (1000, 2), (1000, 4), (1000, 8))
        ),
    ],
}


def sides(draw: np.random.Generator, data: Data, change: Change) -> tuple[np.ndarray, np.ndarray]:
    """The champion's rows and the new ones, as int64."""
    order = draw.permutation(len(data.labels))
    copies = len(data.numbers[change.copy][1])
    new, before = order[order < copies], order[order >= copies]
    if copies == len(order):
        new, before = order[CHAMPIONS_ROWS:], order[:CHAMPIONS_ROWS]
    label = draw.choice(np.unique(data.labels))
    own = data.labels[new] == label
    if change.label == "dropped":
        new = new[~own]
    if change.label == "halved":
        new = new[~own | (draw.random(len(new)) < 0.5)]
    if change.label == "new":
        before = before[data.labels[before] != label]
    if change.label == "new" and change.share < 1:
        every = draw.permutation(np.flatnonzero(data.labels == label))[: round(change.share * change.rows)]
        new = np.concatenate([every, new[~own][: change.rows - len(every)]])
    return before[:CHAMPIONS_ROWS], new[: change.rows]


def trial(data: Data, change: Change, seed: int) -> dict[str, float]:
    """The adjusted p-values of one draw."""
    draw = np.random.default_rng([SEED, seed])
    before, new = sides(draw, data, change)
    picked = draw.random(len(data.labels)) < (change.share if change.copy else 0)

    def known(_: pa.Table, places: list[int]) -> Measured:
        names, measures, embedding = data.numbers[""]
        return names, measures[places], embedding[places]

    def numbers(_: pa.Table, places: list[int]) -> Measured:
        names, measures, embedding = known(_, places)
        copied = picked[places]
        if change.copy:
            rows = np.array(places)[copied]
            measures[copied], embedding[copied] = (part[rows] for part in data.numbers[change.copy][1:])
        return names, measures, embedding

    profiles = []
    for rows, measure in ((before, known), (new, numbers)):
        keys = [data.keys[row] for row in rows]
        ours = set(keys)
        linked = components(keys, [None] * len(keys), [pair for pair in data.near if ours.issuperset(pair)])
        profiles.append(profile_of(data.table, rows.tolist(), short(keys), short(linked), measure))
    return {name: test["adjusted"] for name, test in compare(*profiles).items()}


def table_of(column: str, values: Sequence[Any], labels: Sequence[str]) -> pa.Table:
    origins = [f"row {row}" for row in range(len(values))]
    columns = {column: values, "labels": [[label] for label in labels], "origin": origins}
    return pa.table({name: pa.array(given, SCHEMA[name]) for name, given in columns.items()})


def data_of(column: str, values: Sequence[Any], labels: Sequence[str], copies: dict[str, Any]) -> Data:
    """Distinct contents alone, as preprocess leaves them."""
    keys = content_keys(table_of(column, values, labels), [column])
    first = sorted({key: row for row, key in reversed(list(enumerate(keys)))}.values())
    table = table_of(column, [values[row] for row in first], [labels[row] for row in first])
    keys = [keys[row] for row in first]
    columns = TaskColumns((column,), ("labels",), {column: "string" if column == "text" else column})
    near = near_duplicates(table, columns, keys, Findings(Checks.parse({}, "checks")))
    numbers = {"": measured(table, list(range(len(table))))}
    for name, change in copies.items():
        rows = table[column].slice(0, CHANGED_ROWS).to_pylist()
        changed = table_of(column, [change(row) for row in rows], [""] * len(rows))
        numbers[name] = measured(changed, list(range(len(changed))))
    return Data(table, keys, np.array([labels[row] for row in first]), near, numbers)


def banking77() -> Data:
    rows = []
    for name in ("train.csv", "test.csv"):
        with (DATA / "banking77" / name).open(newline="", encoding="utf-8") as file:
            rows += list(csv.DictReader(file))
    texts, labels = [row["text"] for row in rows], [row["category"] for row in rows]
    order = np.random.default_rng(SEED).permutation(len(texts))
    copies = {"lower case": str.lower}
    return data_of("text", [texts[row] for row in order], [labels[row] for row in order], copies)


def cifar10() -> Data:
    images, labels = [], []
    with tarfile.open(DATA / "cifar10.tar.xz") as archive:
        for member in archive:
            if (file := archive.extractfile(member)) is not None and member.name.endswith(".jpg"):
                images.append({"bytes": file.read(), "path": None})
                labels.append(member.name.split("/")[-2])
    order = np.random.default_rng(SEED).permutation(len(images))
    copies = {f"{step} brighter": lambda image, step=step: brighter(image, step) for step in (2, 4, 8, 16)}
    return data_of("image", [images[row] for row in order], [labels[row] for row in order], copies)


def brighter(image: dict[str, Any], step: int) -> dict[str, Any]:
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(image["bytes"]))).astype(int) + step
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG", compress_level=1)
    return {"bytes": buffer.getvalue(), "path": None}


SOURCES = {"banking77": banking77, "cifar10": cifar10}
_DATA: dict[str, Data] = {}


def _trial(work: tuple[str, int, int]) -> dict[str, float]:
    name, change, seed = work
    return trial(_DATA[name], CHANGES[name][change], seed)


def rates(name: str, trials: int, null: int, found: list[dict[str, Any]]) -> None:
    """Adds a row for each change that `found` lacks, in the order of CHANGES, and keeps the results.

    Trials run in as many processes as there are cores, which have the data by fork.
    """
    _DATA[name] = SOURCES[name]()
    there = {(row["change"], row["new rows"]) for row in found}
    with ProcessPoolExecutor(os.cpu_count(), get_context("fork")) as pool:
        for at, change in enumerate(CHANGES[name]):
            if (change.name, change.rows) in there:
                continue
            began, count = time.perf_counter(), null if change.name == "no drift" else trials
            values = list(pool.map(_trial, [(name, at, seed) for seed in range(count)], chunksize=5))
            found.append(row_of(change, values) | {"seconds": round(time.perf_counter() - began, 1)})
            print(json.dumps(found[-1]), flush=True)
            keep(name, found)


def keep(name: str, found: list[dict[str, Any]]) -> None:
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results |= {"alpha": ALPHA, "champion's rows": CHAMPIONS_ROWS, "seed": SEED, "machine": machine()}
    RESULTS.write_text(json.dumps(results | {name: found}, indent=1) + "\n")


def row_of(change: Change, values: list[dict[str, float]]) -> dict[str, Any]:
    drifted = [min(value.values()) <= ALPHA for value in values]
    by = {test: float(np.mean([value[test] <= ALPHA for value in values])) for test in values[0]}
    share = wilson(sum(drifted), len(values), 0.95)
    first = {"first 200": float(np.mean(drifted[:200]))} if change.name == "no drift" else {}
    told = {"change": change.name, "new rows": change.rows, "trials": len(values), "found": share["value"]}
    return told | {"low": share["low"], "high": share["high"], **by, **first}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", nargs="*", choices=[*SOURCES, []], help="all, unless named")
    parser.add_argument("--trials", type=int, default=50, help="of each change")
    parser.add_argument("--null", type=int, default=200, help="of `no drift`")
    parser.add_argument("--missing", action="store_true", help="only rows that are not there")
    options = parser.parse_args()
    known = json.loads(RESULTS.read_text()) if options.missing and RESULTS.is_file() else {}
    for name in options.data or list(SOURCES):
        rates(name, options.trials, options.null, known.get(name, []))


if __name__ == "__main__":
    main()
