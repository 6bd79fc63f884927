"""The figures, tests and verdicts of classification are those that tests/golden holds, from before they were
made of metrics that are sums over rows. `python -m tests.test_golden_judgement` wrote them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from retrainer.evaluation.evaluate import Champion, evaluate_model
from retrainer.settings import Compute, Evaluation, Gate
from retrainer.training.compute import resolve_compute
from tests.conftest import ROOT
from tests.golden_cases import World, cases, world

COMPUTE = resolve_compute(Compute(device="cpu", dtype="float32", threads=1))
FLOORS = {"region": 0.6, "class": 0.4}
TOLERANCE = 2e-6  # figures are rounded to six decimals


def kind(several: bool) -> str:
    return "multi" if several else "single"


def judged(case: tuple[str, str, str], made: World, out: Path) -> dict[str, Any]:
    champion, metric, policy = case
    held = None
    if champion != "none":
        directory = made.champions[champion]
        held = Champion("7", json.loads((directory / "manifest.json").read_text())["model_sha256"], directory)
    # Slices, floors and the cheap baseline are the same for all: looked at where the gate goes by accuracy.
    own = metric == "accuracy"
    gate = Gate(
        metric=metric,  # type: ignore[arg-type]
        policy=policy,  # type: ignore[arg-type]
        margin=0.05,
        min_accuracy=0.3 if own else 0,
        beat_majority=own,
        beat_baseline=own and champion == "none",
        slice_floors=FLOORS if own else {},
        max_calibration_error=0.2,
    )
    evaluation = Evaluation(resamples=200, baseline=gate.beat_baseline, slices=("brightness",) if own else ())
    return evaluate_model(made.dataset, made.model, out, evaluation, gate, COMPUTE, held, "trees")


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a report, whatever the names of its keys are today."""
    gate, champion = report["gate"], report["champion"]
    own = gate["metric"] == "accuracy"
    compared = ("difference", "better", "worse", "p_value")
    kept = (
        *("verdict", "reasons", "policy", "margin", "rows", "compared_rows", "left_out", "alpha", "power"),
        *("p_value", "difference", "better", "worse", "smallest_difference", "discordant_share"),
        *("discordant_assumed", "test_uses", "false_promotion"),
    )
    found: dict[str, Any] = {
        "metrics": report["metrics"],
        "per_class": report["per_class"],
        "confusion": report["confusion"],
        "calibration": report["calibration"],
        "test_set": report["test_set"],
        "gate": {name: gate[name] for name in kept},
        "rules": [[rule[name] for name in ("name", "value", "bound", "passed")] for rule in gate["rules"]],
        "new_rows": gate["new_rows"],
    }
    if own:
        found["slices"] = [
            [one[name] for name in ("by", "value", "rows", "accuracy", "low", "high")]
            for one in report["slices"]
        ]
        found["baselines"] = {
            name: {key: one[key] for key in ("title", "note", "fitted_rows", "metrics", *compared)}
            for name, one in report["baselines"].items()
        }
    if champion is not None:
        found["champion"] = {
            name: champion[name] for name in ("note", "metrics", *(compared if own else ()))
        }
    return found


def difference(path: str, now: Any, then: Any) -> str:
    """Where two reports first differ, in words; empty where they do not."""
    if isinstance(then, dict) and isinstance(now, dict):
        if then.keys() != now.keys():
            return f"{path}: keys {sorted(then.keys() ^ now.keys())}"
        return next((d for key in then if (d := difference(f"{path}.{key}", now[key], then[key]))), "")
    if isinstance(then, list) and isinstance(now, list | tuple):
        if len(then) != len(now):
            return f"{path}: {now} was {then}"
        return next((d for n in range(len(then)) if (d := difference(f"{path}[{n}]", now[n], then[n]))), "")
    if isinstance(then, float) and isinstance(now, int | float):
        return "" if abs(now - then) <= TOLERANCE else f"{path}: {now} was {then}"
    return "" if now == then else f"{path}: {now!r} was {then!r}"


def golden(several: bool) -> Path:
    return ROOT / "tests" / "golden" / f"judgement-{kind(several)}.json"


@pytest.mark.parametrize("several", [False, True], ids=kind)
def test_classification_is_judged_as_before(several: bool, tmp_path: Path) -> None:
    made = world(tmp_path, several)
    kept = json.loads(golden(several).read_text(encoding="utf-8"))
    differences = []
    for case in cases():
        name = " ".join(case)
        now = figures(judged(case, made, tmp_path / "out" / name))
        differences.append(difference(name, now, expected(kept, name)))
    assert not [one for one in differences if one]


def expected(kept: dict[str, Any], name: str) -> dict[str, Any]:
    """A case as it was; what is the same for all cases of one champion is kept once."""
    return kept["common"] | kept["cases"][name]


def write(several: bool) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        made = world(Path(scratch), several)
        found = {}
        for case in cases():
            found[" ".join(case)] = figures(judged(case, made, Path(scratch) / "out" / " ".join(case)))
    first = next(iter(found.values()))
    same = [key for key in first if all(one.get(key) == first[key] for one in found.values())]
    content = {
        "common": {key: first[key] for key in same},
        "cases": {n: {k: v for k, v in one.items() if k not in same} for n, one in found.items()},
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    golden(several).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    for several in (False, True):
        write(several)
    sys.exit(0)
