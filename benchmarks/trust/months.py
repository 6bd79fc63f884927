"""Month against month: what a clean month sets off, which planted changes are found, what stops a run.

    python -m benchmarks.trust.months [levels] [banking77] [fsdd] […] [--draws 40] [--planted 10]

A clean month: the rows in two random halves, the one the champion's and the other today's; whatever is found
there is false. A planted one: today's half, changed. `levels`: the datasets whole, with their own test sets
where they have some, by the default levels of the checks. Every month goes through preprocess as it is.
Results: benchmarks/results/trust_months.json; a part that is not run keeps what it had.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks._runs import ROOT, machine
from retrainer.data.ingest import ingest
from retrainer.data.preprocess import preprocess
from retrainer.errors import UserError
from retrainer.evaluation.data_figures import data_figures
from retrainer.formats.dataset import SCHEMA, About, Dataset, write_dataset
from retrainer.gate.data_changes import changes
from retrainer.gate.data_figures import DataFigures
from retrainer.resolve import settle
from retrainer.settings import Checks, Gate, Source, Split, Task
from retrainer.tasks import make_task

DATA = ROOT.parent / "shared" / "data"
RESULTS = ROOT / "benchmarks" / "results" / "trust_months.json"
Draw = np.random.Generator
GATE, CHECKS, SPLIT = Gate.parse({}, "gate"), Checks.parse({}, "checks"), Split.parse({}, "split")


# What `source`, `split` and `task` say of each set, as a user would write it.
SETS: dict[str, dict[str, dict[str, Any]]] = {
    "banking77": {
        "source": {"path": "banking77/train.csv", "label": "category"},
        "task": {"kind": "text_classification", "max_length": 64},
    },
    "banking77, own test": {
        "source": {"path": "banking77/train.csv", "test_path": "banking77/test.csv", "label": "category"},
        "task": {"kind": "text_classification", "max_length": 64},
    },
    "cifar10, own test": {
        "source": {"path": "cifar10.tar.xz"},
        "task": {"kind": "image_classification"},
    },
    "fsdd": {
        "source": {"kind": "audio_folder", "path": "fsdd.tar.xz", "pattern": "{label}_{group}_{index}.wav"},
        "task": {"kind": "audio_classification"},
    },
    "fsdd, one speaker as test": {
        "source": {
            "kind": "audio_folder",
            "path": "fsdd.tar.xz",
            "pattern": "{label}_{group}_{index}.wav",
            "test_groups": ["theo"],
        },
        "task": {"kind": "audio_classification"},
    },
    "bccd, own test": {
        "source": {"kind": "pascal_voc", "path": "bccd.tar.xz"},
        "task": {"kind": "object_detection"},
    },
    "multi30k, own test": {
        "source": {"kind": "parallel_text", "path": "multi30k", "text": "de", "target_text": "en"},
        "task": {"kind": "translation", "max_length": 64},
    },
}
MONTHLY = ("banking77", "fsdd", "bccd, own test", "multi30k, own test")


def raw_of(name: str, folder: Path) -> tuple[Dataset, Task]:
    task = Task.parse(SETS[name]["task"], "task")
    source = dict(SETS[name]["source"])
    for key in ("path", "test_path"):
        if key in source:
            source[key] = str(DATA / source[key])
    source["columns"] = _named(task)
    ingest(Source.parse(source, "source"), folder)
    return Dataset(folder), task


def _named(task: Task) -> dict[str, str]:
    """The columns as `resolve` names them to the source."""
    return {name: f"{word}?" if name == "text_pair" else word for name, word in columns_of(task).items()}


def columns_of(task: Task) -> dict[str, str]:
    made = make_task(task)
    return {**made.input_columns, **made.target_columns}


# --- months -------------------------------------------------------------------------------------------------


def figures(rows: pa.Table, task: Task) -> DataFigures:
    with tempfile.TemporaryDirectory() as scratch:
        raw, out = Path(scratch) / "raw", Path(scratch) / "out"
        further = {name: word for name, word in columns_of(task).items() if name not in SCHEMA}
        write_dataset(raw, {"all": rows}, About(types=further))
        preprocess(raw, out, SPLIT, CHECKS, task)
        return data_figures(Dataset(out))


def halves(rows: pa.Table, draw: Draw) -> tuple[pa.Table, pa.Table]:
    order = draw.permutation(len(rows))
    one, other = (rows.take(pa.array(np.sort(part))) for part in np.array_split(order, 2))
    return one, other


def _labels(rows: pa.Table, names: list[list[str] | None]) -> pa.Table:
    at = rows.column_names.index("labels")
    return rows.set_column(at, "labels", pa.array(names, SCHEMA["labels"]))


def _texts(rows: pa.Table, texts: list[str]) -> pa.Table:
    return rows.set_column(rows.column_names.index("text"), "text", pa.array(texts))


def _class_missing(rows: pa.Table, draw: Draw) -> pa.Table:
    names = rows["labels"].to_pylist()
    gone = draw.choice(sorted({one[0] for one in names}))
    return rows.filter(pa.array([one[0] != gone for one in names]))


def _class_new(rows: pa.Table, draw: Draw) -> pa.Table:
    """A third of the rows of one class get another name."""
    names = rows["labels"].to_pylist()
    chosen = draw.choice(sorted({one[0] for one in names}))
    return _labels(
        rows, [["a new one"] if one[0] == chosen and n % 3 == 0 else one for n, one in enumerate(names)]
    )


def _shares_permuted(rows: pa.Table, draw: Draw) -> pa.Table:
    """Every class gets the number of rows of another, from 1/4 to all of what there is."""
    names = [one[0] for one in rows["labels"].to_pylist()]
    classes = sorted(set(names))
    kept = dict(zip(classes, draw.permutation(np.linspace(0.25, 1, len(classes))), strict=True))
    return rows.filter(pa.array([draw.random() < kept[name] for name in names]))


def _half_without_label(rows: pa.Table, draw: Draw) -> pa.Table:
    without = draw.random(len(rows)) < 0.5
    return _labels(
        rows, [None if gone else one for gone, one in zip(without, rows["labels"].to_pylist(), strict=True)]
    )


PLANTED: dict[str, Callable[[pa.Table, Draw], pa.Table]] = {
    "nearly empty: 2% of the rows": lambda rows, _: rows.slice(0, len(rows) // 50),
    "doubled: every row twice": lambda rows, _: pa.concat_tables([rows, rows]),
    "one class of all is missing": _class_missing,
    "a class is new, of a third of another's rows": _class_new,
    "shares of the labels permuted": _shares_permuted,
    "texts cut to their first half": lambda rows, _: _texts(
        rows, [text[: (1 + len(text)) // 2] for text in rows["text"].to_pylist()]
    ),
    "half of the labels empty": _half_without_label,
    "half of the rows gone": lambda rows, _: rows.slice(0, len(rows) // 2),
}


def compared(name: str, draws: int, planted: int) -> dict[str, Any]:
    """Of clean months how many are held, and why; of each planted change how many are stopped or held."""
    with tempfile.TemporaryDirectory() as scratch:
        raw, task = raw_of(name, Path(scratch) / "raw")
        rows = pa.concat_tables([raw.split(part) for part in raw.manifest["rows"]])
    held: list[list[str]] = []
    for number in range(draws):
        one, other = halves(rows, np.random.default_rng(number))
        found = list(changes(GATE, figures(one, task), figures(other, task)))
        held += [found] if found else []
    print(f"{name}: {len(held)} of {draws} clean months held {held}", flush=True)
    told: dict[str, Any] = {"rows": len(rows), "clean": draws, "held": held}
    if name == "banking77":
        told["planted"] = {what: _found(what, rows, task, planted) for what in PLANTED}
    return told


def _found(what: str, rows: pa.Table, task: Task, months: int) -> dict[str, Any]:
    stopped = held = 0
    said = ""
    for number in range(months):
        draw = np.random.default_rng(1000 + number)
        one, other = halves(rows, draw)
        then = figures(one, task)
        try:
            found = list(changes(GATE, then, figures(PLANTED[what](other, draw), task)))
            held += bool(found)
            said = "; ".join(found) or said
        except UserError as error:
            stopped += 1
            said = str(error)
    print(f"  {what}: stopped {stopped}, held {held} of {months}: {said}", flush=True)
    return {"months": months, "stopped": stopped, "held": held, "last": said}


# --- levels -------------------------------------------------------------------------------------------------


RECIPES = (
    "sentiment-minilm",
    "digits-mlp",
    "digits-backbone",
    "digits-resnet18",
    "digits-detection",
    "word-polarity",
)


def recipe_of(name: str, folder: Path) -> tuple[Dataset, Task, Split, Checks]:
    """The recipe's data as they come, and what it says of them."""
    _, sections = settle(name, [], ROOT)
    task: Any = sections["task"]
    source = sections["source"].plain() | {"columns": _named(task)}
    ingest(Source.parse(source, "source"), folder)
    return Dataset(folder), task, sections["split"], sections["checks"]  # type: ignore[return-value]


def levels(name: str) -> dict[str, Any]:
    """The whole set by the default levels: what stops it, or else what is found, and the seconds it takes."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "raw"
        if name in RECIPES:
            raw, task, split, checks = recipe_of(name, place)
        else:
            (raw, task), split, checks = raw_of(name, place), SPLIT, CHECKS
        began = time.perf_counter()
        try:
            manifest = preprocess(raw.path, Path(scratch) / "out", split, checks, task)
        except UserError as error:
            print(f"{name}: STOPPED: {error}", flush=True)
            return {"stopped": str(error)}
        seconds = round(time.perf_counter() - began, 1)
    found = {one["name"]: [one["count"], one["share"]] for one in manifest["checks"] if one["count"]}
    print(f"{name}: {manifest['rows']}, {manifest['dropped']}, {found}, {seconds} s", flush=True)
    return {"rows": manifest["rows"], "dropped": manifest["dropped"], "found": found, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=["levels", *MONTHLY])
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--planted", type=int, default=10)
    asked = parser.parse_args()
    kept = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    kept["machine"] = machine()
    for part in asked.parts:
        if part == "levels":
            kept[part] = {name: levels(name) for name in (*RECIPES, *SETS)}
        else:
            kept[part] = compared(part, asked.draws, asked.planted)
        RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
