"""The figures, tests and verdicts of classification are those that tests/golden holds, from before they were
made of metrics that are sums over rows.

What is new on purpose, and therefore not compared: where the gate goes by another metric than accuracy, so do
now the baselines' rules, the counts of rows, the sentence about new rows and the champion's difference, which
all went by accuracy before. A log loss is now also shown of baselines and champion. Classes and slices are
compared with the champion's by rules of their own, which are looked at here by no case.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from retrainer.evaluation.evaluate import Request, evaluate_model
from retrainer.gate.evidence import Champion
from retrainer.settings import Compute, Evaluation, Gate
from retrainer.training.compute import resolve_compute
from tests.conftest import ROOT
from tests.golden_cases import POLICIES, World, cases, world

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
        metric="" if own else metric,
        policy=policy,  # type: ignore[arg-type]
        margin=0.05,
        min_value=0.3 if own else None,
        beat_trivial=own,
        beat_baseline=own and champion == "none",
        slice_floors=FLOORS if own else {},
        max_drop=0,
        max_calibration_error=0.2,
    )
    slices = ("brightness",) if own else ()
    evaluation = Evaluation(resamples=200, baseline=gate.beat_baseline, slices=slices, explain=0)
    return evaluate_model(Request(made.dataset, made.model, out, evaluation, gate, COMPUTE, held, "trees"))


# What is called otherwise now: metrics, rules, and of several labels a row the accuracy, in sentences.
TITLE = re.compile(r"(^|in )accuracy")
METRICS = {"subset_accuracy": "accuracy"}
RULES = {"accuracy": "metric", "beats the commonest class": "beats the trivial baseline"}


def renamed(kept: dict[str, Any]) -> dict[str, Any]:
    """A report of the golden file by today's names, without what is new on purpose."""
    gate, own = dict(kept["gate"]), "slices" in kept
    if "micro_f1" in kept["metrics"]:  # one title of a metric everywhere
        gate["reasons"] = [TITLE.sub(r"\1subset accuracy", one) for one in gate["reasons"]]
    found = kept | {
        "metrics": _metrics(kept["metrics"]),
        "rules": [[RULES.get(name, name), *more] for name, *more in kept["rules"]],
    }
    if not own:
        for name in ("better", "worse", "discordant_share"):
            del gate[name]
        gate["reasons"] = [one for one in gate["reasons"] if "test set changed" not in one]
        del found["new_rows"]
    else:
        found["new_rows"] = _counts(kept["new_rows"])
        found["baselines"] = {
            name: one | {"metrics": _metrics(one["metrics"])} for name, one in kept["baselines"].items()
        }
    if "champion" in kept:
        found["champion"] = kept["champion"] | {"metrics": _metrics(kept["champion"]["metrics"])}
    return found | {"gate": gate}


def _metrics(kept: dict[str, Any]) -> dict[str, Any]:
    return {METRICS.get(name, name): figure for name, figure in kept.items()}


def _counts(new_rows: dict[str, Any] | None) -> list[Any] | None:
    return new_rows and [new_rows[name] for name in ("rows", "better", "worse", "p_value")]


def figures(report: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """Of a report what is `kept` of it."""
    gate, details = report["gate"], report["details"]
    rules = [[rule[name] for name in ("name", "value", "bound", "passed")] for rule in gate["rules"]]
    found = {
        "metrics": {name: report["metrics"][name] for name in kept["metrics"]},
        **{name: details[name] for name in ("per_class", "confusion", "calibration")},
        "test_set": _test_set(report["test_set"], kept["test_set"]),
        "gate": {name: gate[name] for name in kept["gate"]},
        "rules": rules,
        "new_rows": _counts(gate["new_rows"]),
        "slices": [
            [one[name] for name in ("by", "name", "rows", "value", "low", "high")] for one in report["slices"]
        ],
        "baselines": {name: _opponent(one, kept, name) for name, one in report["baselines"].items()},
        "champion": report["champion"] and _opponent(report["champion"], {"baselines": kept}, "champion"),
    }
    if "slices" not in kept:
        found["gate"]["reasons"] = [one for one in gate["reasons"] if "test set changed" not in one]
    return {name: found[name] for name in kept}


def _test_set(now: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    champion = now["champion"] and {
        name: now["champion"][name] for name in kept["champion"] or now["champion"]
    }
    return {name: now[name] for name in kept} | {"champion": champion}


def _opponent(one: dict[str, Any], kept: dict[str, Any], name: str) -> dict[str, Any]:
    held = kept.get("baselines", {}).get(name)
    if held is None:
        return {}
    metrics = {metric: one["metrics"][metric] for metric in held["metrics"]}
    return {key: one[key] for key in held} | {"metrics": metrics}


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


@pytest.mark.parametrize(
    ("several", "policy"),
    [
        (False, "better"),
        (True, "not-worse"),
        pytest.param(False, "not-worse", marks=pytest.mark.slow),
        pytest.param(True, "better", marks=pytest.mark.slow),
    ],
)
def test_a_judgement_has_the_recorded_figures(several: bool, policy: str, tmp_path: Path) -> None:
    made = world(tmp_path, several)
    kept = json.loads(golden(several).read_text(encoding="utf-8"))
    differences = []
    chosen = [case for case in cases() if case[-1] == policy]
    assert len(chosen) == len(cases()) / len(POLICIES)
    for case in chosen:
        name = " ".join(case)
        then = renamed(kept["common"] | kept["cases"][name])
        now = figures(judged(case, made, tmp_path / "out" / name), then)
        differences.append(difference(name, now, then))
    assert not [one for one in differences if one]
