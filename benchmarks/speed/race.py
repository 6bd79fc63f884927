"""Runs contenders over the same work, each in a process of its own, in turns; compares them round by round.

A contender is a function `module:function` that is called as `function(work, seed, **options)`, where
`work` is the directory that the job prepared and `seed` the round's number, and returns Figures. It must
train all of what it is timed for.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

# Rounds alternate the order, so that a machine that slows down slows everybody.
ROUNDS = 3
# Of the jobs that compare accuracy; so many first weights are drawn.
SEEDS = 5
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

    `measure` is what is compared: `samples` (a second), `to_target` (seconds), `accuracy` (seed by seed).
    """

    name: str
    what: str
    prepare: Callable[[Path], None]
    contenders: Sequence[Contender]
    claims: dict[str, float] = field(default_factory=dict)
    measure: str = "samples"
    rounds: int = ROUNDS


def race(job: Job, only_round: bool = False, note: Callable[[list[Run]], None] = lambda _: None) -> list[Run]:
    """Every contender's runs, and what each cost: `wall` seconds and processor seconds (`cpu`) of its process
    and the ones that it started, and `peak_mb` of its own memory. `note` is given all of them after each."""
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="race-") as into:
        work = Path(into) / "work"
        work.mkdir()
        job.prepare(work)
        for number in range(1 if only_round else job.rounds):
            turn = list(job.contenders)
            for contender in turn if number % 2 == 0 else turn[::-1]:
                runs.append({"job": job.name, "seed": number, **_run(contender, work, number)})
                print(_line(runs[-1]), flush=True)
                note(runs)
    return runs


def _run(contender: Contender, work: Path, number: int) -> Run:
    with tempfile.TemporaryDirectory(prefix="race-run-") as own:
        answer = Path(own) / "figures.json"
        told = json.dumps(
            {
                "call": contender.call,
                "work": str(work),
                "options": contender.options | {"seed": number},
                "out": str(answer),
            }
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
    cost = {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime}
    return {"name": contender.name, **figures, **cost}


def begin() -> float:
    """The moment from which a contender counts: behind the imports, also the one that PyTorch puts off until
    there is an optimiser.
    """
    import torch._dynamo  # noqa: F401

    return time.perf_counter()


def since_start() -> float:
    """Seconds since this contender's process was started, imports included."""
    return time.time() - float(os.environ["RACE_BEGAN"])


def _line(run: Run) -> str:
    speed = run["samples"] / run["seconds"]
    right = f", accuracy {run['accuracy']:.4f}" if "accuracy" in run else ""
    told = f"{speed:,.1f} samples/s, {run['wall']:.1f} s{right}"
    return f"  {run['job']}, round {run['seed']}: {run['name']}: {told}"


def main(told: str) -> None:
    job = json.loads(told)
    module, _, name = job["call"].partition(":")
    figures = getattr(importlib.import_module(module), name)(Path(job["work"]), **job["options"])
    used = sys.modules.get("torch")
    threads = {"threads": used.get_num_threads()} if used else {}
    Path(job["out"]).write_text(json.dumps(figures | threads | {"peak_mb": peak_mb()}))


def peak_mb() -> float:
    """The most memory that this program has held, in 2^20 bytes. (What the system says of a child when it has
    ended begins with its parent's.)"""
    status = Path("/proc/self/status")
    if not status.is_file():  # no Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main(sys.argv[1])
