"""Learning curves of half of the rows, extrapolated, beside the truth at twice as many.

    python -m benchmarks.trust.need [ridge-banking77] [ridge-cifar10] [head-banking77] [head-cifar10]
        [digits-mlp] [--draws 20] [--rows 600 …]

Of each dataset rows are drawn at random; one half is "today", all are "twice". The curve of today's rows
gives an interval for twice the rows, and the recipe trained on all of them is the truth. `ridge`: the cheap
head of every report, on the report's sizes; the others have those of `make curve`.

What was trained once is kept in benchmarks/results/trust_need.json and not trained again; the laws are fitted
anew each time, so that a change of them is judged by the same trainings. `--draws 0` fits and trains nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._runs import ROOT, machine
from benchmarks.trust._need_recipes import Recipe, digits, head, ridge
from retrainer.need.extrapolate import Need, Point, need_of
from retrainer.need.scale import Scale
from retrainer.need.subsets import nested_parts

RESULTS = ROOT / "benchmarks" / "results" / "trust_need.json"
DRAWS = 20
Line = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """`halves`: numbers of today's rows; of each of `shares` of them so many `trainings`. All classes have
    equally many test rows."""

    make: Callable[[], tuple[Recipe, int]]
    classes: int
    halves: tuple[int, ...]
    shares: tuple[float, ...] = (1 / 8, 1 / 4, 1 / 2, 1.0)
    trainings: tuple[int, ...] = (4, 3, 2, 1)


_OF_REPORTS: dict[str, Any] = {
    "shares": (1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1.0),
    "trainings": (3, 3, 3, 3, 3, 3, 1),
}


def works(kept: Path) -> dict[str, Work]:
    return {
        "ridge-banking77": Work(lambda: ridge("banking77"), 77, (600, 1250, 2500, 5000), **_OF_REPORTS),
        "ridge-cifar10": Work(lambda: ridge("cifar10"), 10, (600, 2000, 6000), **_OF_REPORTS),
        "head-banking77": Work(lambda: head("banking77", kept), 77, (600, 1250, 2500, 5000)),
        "head-cifar10": Work(lambda: head("cifar10", kept), 10, (600, 2000, 6000)),
        "digits-mlp": Work(lambda: digits(kept), 10, (600, 1700)),
    }


def trained(work: Work, recipe: Recipe, rows: int, half: int, draw: int) -> Line:
    """The values of a curve of `half` of the N = `rows` rows, and the truth at twice as many."""
    chosen = np.random.default_rng((draw, half)).permutation(rows)
    today = np.sort(chosen[:half])
    sizes = [round(share * half) for share in work.shares]
    parts = [nested_parts(np.arange(half), sizes, each) for each in range(max(work.trainings))]
    values = [
        [round(recipe(today[parts[each][place]], each), 5) for each in range(trainings)]
        for place, trainings in enumerate(work.trainings)
    ]
    truth = recipe(np.sort(chosen[: 2 * half]), 100)
    line: Line = {"rows": half, "draw": draw, "sizes": sizes, "values": values, "truth": round(truth, 5)}
    more = forecast(line, work).more_rows["value"]
    if more is not None and half + more <= rows:
        line["further"] = [more, round(recipe(np.sort(chosen[: half + more]), 101), 5)]
    return line


def forecast(line: Line, work: Work) -> Need:
    points = [Point(size, tuple(values)) for size, values in zip(line["sizes"], line["values"], strict=True)]
    return need_of(points, Scale(1.0, True, True, 1 - 1 / work.classes))


def summary(found: list[Line], work: Work) -> dict[str, Any]:
    """Coverage, width and error of the forecast, beside two that cost nothing: no change, and the last gain
    again by the law of the last two points (each doubling divides the error alike)."""
    needs = [forecast(line, work) for line in found]
    low, high, middle = (
        np.array([need.at_twice[name] for need in needs]) for name in ("low", "high", "value")
    )
    truth = np.array([line["truth"] for line in found])
    now, before = (np.array([np.mean(line["values"][at]) for line in found]) for at in (-1, -2))
    others = {"no change": now, "same ratio": 1 - (1 - now) ** 2 / np.maximum(1 - before, 1e-9)}
    return {
        "curves": len(found),
        "covered": int(((low <= truth) & (truth <= high)).sum()),
        "below": int((truth < low).sum()),
        "above": int((truth > high).sum()),
        "width": round(float((high - low).mean()), 4),
        "gain": round(float((truth - now).mean()), 4),
        "error": {
            name: round(float(np.abs(those - truth).mean()), 4)
            for name, those in ({"law": middle} | others).items()
        },
        "bias": round(float((middle - truth).mean()), 4),
        "kinds": {kind: sum(need.kind == kind for need in needs) for kind in ("rows", "open", "flat")},
        **_next_point(found, needs),
    }


def _next_point(found: list[Line], needs: list[Need]) -> dict[str, Any]:
    """What came of the rows that were said to give the next point, in such steps: 1 is what was said."""
    steps = [
        (line["further"][1] - line["values"][-1][0]) / need.step
        for line, need in zip(found, needs, strict=True)
        if "further" in line and line["further"][0] == need.more_rows["value"]
    ]
    if not steps:
        return {"next_point_tried": 0}
    return {
        "next_point_tried": len(steps),
        "steps_gained": round(float(np.mean(steps)), 2),
        "steps_gained_sd": round(float(np.std(steps)), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*")
    parser.add_argument("--kept", type=Path, default=ROOT / "build" / "frozen", help="where features lie")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--rows", type=int, nargs="+", default=[], help="of today; all by default")
    arguments = parser.parse_args()
    work = works(arguments.kept)
    for name in arguments.parts or list(work):
        _run(name, work[name], tuple(arguments.rows) or work[name].halves, arguments.draws)


def _run(name: str, work: Work, halves: tuple[int, ...], draws: int) -> None:
    kept: list[Line] = _kept().get(name, {}).get("lines", [])
    known = {(line["rows"], line["draw"]) for line in kept}
    missing = [(half, draw) for draw in range(draws) for half in halves if (half, draw) not in known]
    if missing:
        recipe, rows = work.make()
        for half, draw in missing:
            kept.append(trained(work, recipe, rows, half, draw))
            _write(name, {"lines": kept})
    ordered = sorted(kept, key=lambda line: (line["rows"], line["draw"]))
    found: dict[str, Any] = {"machine": machine(), "all": summary(ordered, work)}
    for half in sorted({line["rows"] for line in ordered}):
        found[str(half)] = summary([line for line in ordered if line["rows"] == half], work)
        print(name, half, json.dumps(found[str(half)]), flush=True)
    print(name, "all", json.dumps(found["all"]), flush=True)
    _write(name, found | {"lines": ordered})


def _kept() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return found


def _write(name: str, found: dict[str, Any]) -> None:
    RESULTS.write_text(json.dumps(_kept() | {name: found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
