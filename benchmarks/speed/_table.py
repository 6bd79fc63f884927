"""A race's runs as one table: medians over the rounds, and ours beside each other contender."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from benchmarks.speed.race import Job, Run

# Two-sided 95%, Student's t, by the number of seeds.
_T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
_HEAD = """| | samples/s | tokens/s | wall, s | to target, s | accuracy | peak, MB | {last} |
|---|---|---|---|---|---|---|---|"""


def table(job: Job, runs: list[Run]) -> str:
    """Ratios are medians of the rounds' ratios, lowest and highest behind them; where accuracy is compared,
    the mean of the seeds' differences with its 95% interval.
    """
    by_seed, to_target = job.measure == "accuracy", job.measure == "to_target"
    last = "ours is ahead by, points" if by_seed else "ours is there first" if to_target else "ours is faster"
    lines = [f"### {job.what}", "", _HEAD.format(last=last)]
    for contender in job.contenders:
        if by_seed:
            compared = _points(ahead(job, runs).get(contender.name))
        else:
            compared = _ratio(ratios(job, runs).get(contender.name), job.claims.get(contender.name))
        mine = [run for run in runs if run["name"] == contender.name]
        lines.append(f"| {contender.name} | " + " | ".join([*_costs(mine, to_target), compared]) + " |")
    return "\n".join(lines) + "\n"


def ratios(job: Job, runs: list[Run]) -> dict[str, list[float]]:
    """Ours over each other contender, one ratio a round; infinite where that one never got there."""

    def compare(ours: Run, other: Run) -> float:
        speed = _speed(other, job.measure)
        return _speed(ours, job.measure) / speed if speed else float("inf")

    return _in_pairs(job, runs, compare)


def ahead(job: Job, runs: list[Run]) -> dict[str, list[float]]:
    """Ours less each other contender's accuracy, a difference a seed, in points."""
    return _in_pairs(job, runs, lambda ours, other: 100 * (ours["accuracy"] - other["accuracy"]))


def _in_pairs(job: Job, runs: list[Run], compare: Callable[[Run, Run], float]) -> dict[str, list[float]]:
    found = {(run["seed"], run["name"]): run for run in runs}
    seeds = sorted({run["seed"] for run in runs})
    ours, *others = (contender.name for contender in job.contenders)
    return {name: [compare(found[n, ours], found[n, name]) for n in seeds] for name in others}


def _speed(run: Run, measure: str) -> float:
    """The higher, the faster."""
    if measure == "samples":
        return float(run["samples"] / run["seconds"])
    return 1 / run[measure] if run.get(measure) else 0.0


def _costs(mine: list[Run], to_target: bool) -> list[str]:
    tokens = [run["tokens"] / run["seconds"] for run in mine if "tokens" in run]
    return [
        f"{statistics.median(run['samples'] / run['seconds'] for run in mine):,.1f}",
        f"{statistics.median(tokens):,.0f}" if tokens else "",
        f"{statistics.median(run['wall'] for run in mine):.1f}",
        _seconds([run["to_target"] for run in mine]) if to_target else "",
        _share([run["accuracy"] for run in mine if "accuracy" in run]),
        f"{statistics.median(run['peak_mb'] for run in mine):,.0f}",
    ]


def _seconds(found: list[float | None]) -> str:
    reached = [one for one in found if one is not None]
    missed = len(found) - len(reached)
    some = f"{statistics.median(reached):.1f}" if reached else "never"
    return f"{some} ({missed} of {len(found)} never)" if missed and reached else some


def _share(found: list[float]) -> str:
    spread = f" ± {statistics.stdev(found):.4f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.4f}{spread}" if found else ""


def _ratio(found: list[float] | None, claim: float | None) -> str:
    if not found:
        return ""
    promised = f", promised {claim:g}" if claim else ""
    if max(found) == float("inf"):  # somebody never got there: no ratio that is one
        return f"at least {min(found):.2f}×{promised}" if min(found) < float("inf") else "alone"
    return f"{statistics.median(found):.2f}× ({min(found):.2f} to {max(found):.2f}{promised})"


def _points(found: list[float] | None) -> str:
    if not found:
        return ""
    mean = statistics.mean(found)
    if len(found) not in _T95:
        return f"{mean:+.2f}"
    half = _T95[len(found)] * statistics.stdev(found) / len(found) ** 0.5
    return f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})"
