"""Runs contenders over the same work, each in a process of its own, in turns; compares them round by round.

A contender is a function `module:function` that is called as `function(work, **options)`, where `work` is the
directory that the job prepared, and returns Figures. It must train all of what it is timed for.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

# Rounds alternate the order, so that a machine that slows down slows everybody.
ROUNDS = 3
Run = dict[str, Any]


class Figures(TypedDict):
    """What a contender says of itself. Seconds are its own clock's, from the first step to the last."""

    samples: int  # trained on, over all epochs
    seconds: float
    tokens: NotRequired[int]  # real ones, without padding
    accuracy: NotRequired[float]  # after the last epoch
    to_target: NotRequired[float | None]  # seconds from process start, None: never reached


@dataclass(frozen=True)
class Contender:
    name: str
    call: str  # module:function
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """`contenders[0]` is ours; `claims` are the least ratios to others, by name, that the project promises.

    `measure` is the figure that is compared: `samples` (a second), `wall` or `to_target` (seconds).
    """

    name: str
    what: str
    prepare: Callable[[Path], None]
    contenders: Sequence[Contender]
    claims: dict[str, float] = field(default_factory=dict)
    measure: str = "samples"
    rounds: int = ROUNDS


def race(job: Job, only_round: bool = False) -> list[Run]:
    """Every contender's runs, and what each cost: `wall` seconds of its process and `peak_mb` of memory."""
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="race-") as into:
        work = Path(into) / "work"
        work.mkdir()
        job.prepare(work)
        for number in range(1 if only_round else job.rounds):
            turn = list(job.contenders)
            for contender in turn if number % 2 == 0 else turn[::-1]:
                runs.append({"job": job.name, "round": number, **_run(contender, work)})
                print(_line(runs[-1]), flush=True)
    return runs


def _run(contender: Contender, work: Path) -> Run:
    with tempfile.TemporaryDirectory(prefix="race-run-") as own:
        answer = Path(own) / "figures.json"
        told = json.dumps(
            {"call": contender.call, "work": str(work), "options": contender.options, "out": str(answer)}
        )
        began = time.perf_counter()
        process = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "benchmarks.speed.race", told],
            os.environ | {"TMPDIR": own, "RACE_BEGAN": repr(time.time())},
        )
        _, status, usage = os.wait4(process, 0)
        wall = time.perf_counter() - began
        if status:
            raise SystemExit(f"{contender.name} ended with status {os.waitstatus_to_exitcode(status)}")
        figures: Figures = json.loads(answer.read_text())
    return {"name": contender.name, **figures, "wall": wall, "peak_mb": usage.ru_maxrss / 1024}


def begin() -> float:
    """The moment from which a contender counts: behind the imports, also the one that PyTorch puts off until
    there is an optimiser.
    """
    import torch._dynamo  # noqa: F401

    return time.perf_counter()


def since_start() -> float:
    """Seconds since this contender's process was started, imports included."""
    return time.time() - float(os.environ["RACE_BEGAN"])


def _value(run: Run, measure: str) -> float:
    """The higher, the faster."""
    if measure == "samples":
        return float(run["samples"] / run["seconds"])
    return 1 / run[measure] if run.get(measure) else 0.0


def ratios(job: Job, runs: list[Run]) -> dict[str, list[float]]:
    """Ours over each other contender, one ratio a round; infinite where that one never got there."""
    rounds = sorted({run["round"] for run in runs})
    speed = {(run["round"], run["name"]): _value(run, job.measure) for run in runs}
    ours, *others = (contender.name for contender in job.contenders)
    return {
        name: [speed[n, ours] / speed[n, name] if speed[n, name] else float("inf") for n in rounds]
        for name in others
    }


def table(job: Job, runs: list[Run]) -> str:
    """Medians over the rounds; ratios are medians of the rounds' ratios, lowest and highest behind them."""
    found = ratios(job, runs)
    lines = [
        f"### {job.what}",
        "",
        "| | samples/s | tokens/s | wall, s | to target, s | accuracy | peak, MB | ours is faster |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for contender in job.contenders:
        mine = [run for run in runs if run["name"] == contender.name]
        per_second = [run["samples"] / run["seconds"] for run in mine]
        tokens = [run["tokens"] / run["seconds"] for run in mine if "tokens" in run]
        cells = [
            f"{statistics.median(per_second):,.1f}",
            f"{statistics.median(tokens):,.0f}" if tokens else "",
            f"{statistics.median(run['wall'] for run in mine):.1f}",
            _seconds([run["to_target"] for run in mine if "to_target" in run]),
            _share([run["accuracy"] for run in mine if "accuracy" in run]),
            f"{statistics.median(run['peak_mb'] for run in mine):,.0f}",
            _ratio(found.get(contender.name), job.claims.get(contender.name)),
        ]
        lines.append(f"| {contender.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _seconds(found: list[float | None]) -> str:
    reached = [one for one in found if one is not None]
    if not found:
        return ""
    missed = len(found) - len(reached)
    some = f"{statistics.median(reached):.1f}" if reached else "never"
    return f"{some} ({missed} of {len(found)} never)" if missed and reached else some


def _share(found: list[float]) -> str:
    return f"{statistics.mean(found):.4f}" if found else ""


def _ratio(found: list[float] | None, claim: float | None) -> str:
    if not found:
        return ""
    promised = f", promised {claim:g}" if claim else ""
    return f"{statistics.median(found):.2f}× ({min(found):.2f} to {max(found):.2f}{promised})"


def _line(run: Run) -> str:
    speed = run["samples"] / run["seconds"]
    return f"  {run['job']}, round {run['round']}: {run['name']}: {speed:,.1f} samples/s, {run['wall']:.1f} s"


def main(told: str) -> None:
    job = json.loads(told)
    module, _, name = job["call"].partition(":")
    figures = getattr(importlib.import_module(module), name)(Path(job["work"]), **job["options"])
    Path(job["out"]).write_text(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1])
