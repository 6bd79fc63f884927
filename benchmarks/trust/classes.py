"""Classes that collapse: how often equal models are held for one, and how often a collapse is found.

    python -m benchmarks.trust.classes [simulate] [small] [boxes] [banking77] [cifar10] [fsdd] [digits]

`simulate` draws counts of rows; `small` draws equal models that disagree much, on few rows a class; `boxes`
draws equal detectors; the next three fit linear models to parts of
real training rows, and to rows where one class is spoilt; `digits` trains the 784-128-64-10 network with many
seeds. Results go to benchmarks/results/trust_classes.json; a part that is not run keeps what it had.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks._runs import ROOT, machine
from benchmarks.trust import _corrections, _retrained
from benchmarks.trust._class_rows import ROWS, RealRows
from benchmarks.trust._equal_answers import detections
from benchmarks.trust.gate import table
from retrainer import metrics
from retrainer.formats.columns import TYPES
from retrainer.formats.dataset import Dataset
from retrainer.gate.evidence import Evidence, Part
from retrainer.gate.measured import Measured
from retrainer.gate.pair import Pair
from retrainer.gate.parts import part_changes
from retrainer.settings import Gate
from retrainer.tasks._class_figures import average_precisions
from retrainer.tasks._found_boxes import FOUND, with_most_boxes

RESULTS = ROOT / "benchmarks" / "results" / "trust_classes.json"
SEED = 2026
ACCURACY = metrics.load("accuracy", "metric")
DROPS = (0.05, 0.1, 0.2)
Rows = list[dict[str, Any]]


def simulate() -> Rows:
    sizes = [(classes, rows) for classes in (3, 10, 77) for rows in (20, 40, 100)]
    equal = [
        _corrections.rates(*size, discordant, 0.0, 2000, SEED) for size in sizes for discordant in (0.04, 0.1)
    ]
    drops = [_corrections.rates(*size, 0.06, drop, 1000, SEED) for size in sizes for drop in (0.2, 0.5, 0.85)]
    return [*equal, *drops]


def small() -> Rows:
    """Equal models on 18 to 45 rows a class: how often one is held."""
    found, draw = [], np.random.default_rng(SEED)
    for classes in (9, 15, 77):
        for rows in (18, 25, 45):
            for recall, discordant in ((0.9, 0.1), (0.5, 0.25), (0.5, 0.4)):
                trials = 2000 if classes < 77 else 500
                truth: np.ndarray = np.repeat(np.arange(classes), rows)
                held = sum(
                    _holds(recall_parts(*_equal(len(truth), recall, discordant, draw), truth), DROPS[-1])
                    for _ in range(trials)
                )
                about = {"classes": classes, "rows a class": rows, "recall": recall, "discordant": discordant}
                found.append({**about, "trials": trials, "held, drop above 20 points": held / trials})
    return found


def _equal(
    rows: int, recall: float, discordant: float, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """bool [rows] twice: what two models have right that have each row right with the chance `recall`."""
    differ = draw.random(rows) < discordant
    both = draw.random(rows) < (recall - discordant / 2) / (1 - discordant)
    mine = np.where(differ, draw.random(rows) < 0.5, both)
    return mine, np.where(differ, ~mine, both)


def boxes() -> Rows:
    """Equal detectors of three classes, of which the rarest is on few images: how often one is held."""
    found = []
    for rows, trials in ((60, 400), (200, 150)):
        draw, held = np.random.default_rng((SEED, rows)), dict.fromkeys((0.001, *DROPS), 0)
        for _ in range(trials):
            first, second, truth = detections(rows, draw)
            swapped = (draw.random(rows) < 0.5).tolist()
            both = zip(first, second, swapped, strict=True)
            sides = zip(*((b, a) if swap else (a, b) for a, b, swap in both), strict=True)
            tables = [pa.table({"boxes": pa.array(list(side), pa.list_(FOUND))}) for side in sides]
            true = pa.table({"boxes": pa.array(truth, TYPES["boxes"])})
            mine, its = (average_precisions(one, true) for one in with_most_boxes(tables[0], tables[1]))
            parts = [
                _part(name, Measured(one.metric, one.statistics), Measured(one.metric, its[name].statistics))
                for name, one in mine.items()
            ]
            for drop in held:
                held[drop] += _holds(parts, drop)
        rates = {f"held, drop above {100 * drop:g} points": n / trials for drop, n in held.items()}
        found.append({"images": rows, "classes": 3, "trials": trials, **rates})
    return found


def _part(name: str, mine: Measured, its: Measured) -> Part:
    return Part("class", name, "figure", mine.rows, Pair(mine, its))


def _holds(parts: Sequence[Part], drop: float) -> bool:
    return bool(_collapsed(parts, drop))


def _collapsed(parts: Sequence[Part], drop: float) -> set[str]:
    evidence = Evidence(
        parts[0].pair.candidate, "accuracy", "accuracy", champion=parts[0].pair, parts=tuple(parts)
    )
    gate = Gate.parse({"max_drop": drop}, "gate")
    return {one.name for one in part_changes(gate, evidence) if one.collapsed}


def recall_parts(mine: np.ndarray, its: np.ndarray, truth: np.ndarray) -> list[Part]:
    """Of two models' right rows, bool [N], by the rows' classes [N]."""
    sides = [np.stack([one, np.ones(len(one))], axis=1).astype(float) for one in (mine, its)]
    return [
        _part(str(name), *(Measured(ACCURACY, side[truth == name]) for side in sides))
        for name in np.unique(truth)
    ]


def held_pairs(right: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """The share of all ordered pairs of models, bool [models, N], that is held, by the drop allowed."""
    pairs = [(a, b) for a in range(len(right)) for b in range(len(right)) if a != b]
    parts = [recall_parts(right[a], right[b], truth) for a, b in pairs]
    spread = np.stack([right[:, truth == name].mean(axis=1) for name in np.unique(truth)])
    rates = {
        f"held, drop above {100 * drop:g} points": float(np.mean([_holds(one, drop) for one in parts]))
        for drop in (0.001, *DROPS)
    }
    about = {"models": len(right), "pairs": len(pairs), "classes": len(spread), "test rows": len(truth)}
    return about | {"recall, ± sd of a class": float(spread.std(axis=1).mean())} | rates


def linear(name: str) -> Rows:
    """Linear models of real rows: as good as each other, then with one class spoilt."""
    rows, draw = ROWS[name](), np.random.default_rng(SEED)
    count = len(rows.names)
    halves = [np.sort(draw.permutation(count)[: round(0.8 * count)]) for _ in range(10)]
    right = np.stack([rows.answers(half) == rows.truth for half in halves])
    about = {"data": name, "accuracy": float(right.mean())}
    found = [{**about, "candidate": "other 80% of the rows", **held_pairs(right, rows.truth)}]
    names = np.unique(rows.truth)
    names = draw.permutation(names)[:15]
    for spoil in ("three quarters of its rows lost", "its rows labelled as another class"):
        found.append({**about, "candidate": spoil, **_spoilt_models(rows, halves, right, names, spoil)})
    return found


def _spoilt_models(
    rows: RealRows, halves: list[np.ndarray], right: np.ndarray, names: np.ndarray, spoil: str
) -> dict[str, Any]:
    named, drops = dict.fromkeys(DROPS, 0), []
    for number, name in enumerate(names):
        half, its = halves[number % 10], right[(number + 1) % 10]
        labels, mine = rows.names, np.flatnonzero(rows.names[half] == name)
        if spoil.startswith("three"):
            half = np.delete(half, mine[: round(0.75 * len(mine))])
        else:
            labels = np.where(labels == name, names[(number + 1) % len(names)], labels)
        parts = recall_parts(rows.answers(half, labels) == rows.truth, its, rows.truth)
        (part,) = [one for one in parts if one.name == name]
        drops.append(-part.pair.gain)
        for drop in DROPS:
            named[drop] += name in _collapsed(parts, drop)
    rates = {f"named, drop above {100 * drop:g} points": n / len(names) for drop, n in named.items()}
    return {"pairs": len(names), "mean drop of the class": float(np.mean(drops)), **rates}


def digits() -> Rows:
    """20 of the seeds of `benchmarks.trust.gate`, on all held-out rows."""
    found = []
    for epochs in _retrained.EPOCHS:
        with tempfile.TemporaryDirectory() as into:
            right = _retrained.answered(Path(into), epochs, models=20)
            labels = Dataset(Path(into) / "dataset").split("test")["labels"].to_pylist()
        truth = np.array([names[0] for names in labels])
        found.append({"candidate": f"another seed, {epochs} epochs", **held_pairs(right, truth)})
    return found


def main(names: list[str]) -> None:
    names = names or ["simulate", "small", "boxes", *ROWS, "digits"]
    parts: dict[str, Callable[[], Rows]] = {
        "simulate": simulate,
        "small": small,
        "boxes": boxes,
        "digits": digits,
    }
    parts |= {name: partial(linear, name) for name in ROWS}
    for name in names:
        began = time.perf_counter()
        rows = parts[name]()
        seconds = round(time.perf_counter() - began, 1)
        kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        kept[name] = {"machine": machine(), "seed": SEED, "seconds": seconds, "rows": rows}
        print(f"\n### {name}\n\n{table(rows)}\n\n{seconds} s", flush=True)
        RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
