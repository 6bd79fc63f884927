"""Are attributions about the model? Candidate methods under random weights, by deletion and by insertion.

    python -m benchmarks.trust.attributions [--into DIR] [sentiment] [digits] [small] [transfer] [spoken]
        [flipped] [chance] [seconds]

Trains each recipe once (seed 0) by the same steps as `make pipeline`, unless DIR has its model, explains 40
test rows by each method, all of them Captum's, and prints the figures of docs/interpretability.md. `small` is
digits-resnet18 from scratch, `transfer` from its backbone; `spoken` reads the recordings of FSDD in
`../shared/data`. `flipped` gives 5% of the test rows of the default recipe a wrong label, and counts what the
training rows nearest to each mistake have. `chance`: how often the report's few rows would fail the test by
luck. `seconds`: what attributions add to the evaluation of the default recipe and of digits-mlp, and to the
report's bytes. DIR keeps the models. Results: benchmarks/results/trust_attributions.json.

  random weights  Spearman's correlation of the parts' sizes with those under a random head, and under random
                  weights altogether
  deletion        the mean share of the answer beside its rival while parts become the baseline, greatest
                  values first: less is better. Insertion: while parts of the row appear: more is better
                  (Petsiuk, Das, Saenko 2018, arXiv:1806.07421)
"""

from __future__ import annotations

import argparse
import json
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks._runs import ROOT, machine
from benchmarks.trust._attribution_cases import Case, cases
from benchmarks.trust._attribution_methods import METHODS, curves, fits, integrated
from benchmarks.trust._attribution_report import chance, flipped, seconds, trained
from retrainer.attribution.explain import Explainer, completeness_error, values_of
from retrainer.attribution.randomised import RANDOM, Randomised, randomise
from retrainer.formats.model_files import SETTINGS
from retrainer.predict import Predictor

FSDD = ROOT.parent / "shared" / "data" / "fsdd.tar.xz"
RESULTS = ROOT / "benchmarks" / "results" / "trust_attributions.json"
ROWS = 40
STEPS = (4, 8, 16, 32, 64)


def figures(predictor: Predictor, rows: pa.Table) -> dict[str, Any]:
    """Of each method what it scores, and of Integrated Gradients what each number of steps misses."""
    explainer, found = Explainer.of(predictor), cases(predictor, rows)
    contrasts = predictor.task.contrasts(predictor.predict(rows))
    shipped = values_of(explainer.explain(rows, contrasts))
    methods: dict[str, Any] = {
        name: _tested(predictor, found, name, shipped) for name in METHODS if fits(name, explainer)
    }
    draw = np.random.default_rng(0)
    methods["random order"] = _curves(predictor, found, [draw.permutation(one.parts) for one in found])
    missed = {steps: _missed(predictor, rows, contrasts, steps) for steps in STEPS}
    return {"rows": len(rows), "completeness": missed, "methods": methods}


def _missed(predictor: Predictor, rows: pa.Table, contrasts: np.ndarray, steps: int) -> dict[str, float]:
    began = time.perf_counter()
    made = Explainer.of(predictor, steps).explain(rows, contrasts)
    each = 1000 * (time.perf_counter() - began) / len(rows)
    return {"missed": round(completeness_error(made), 4), "ms_a_row": round(each, 2)}


def _tested(predictor: Predictor, found: list[Case], name: str, shipped: list[np.ndarray]) -> dict[str, Any]:
    method = METHODS[name]
    began = time.perf_counter()
    values = [method(predictor, predictor.network, case) for case in found]
    each = 1000 * (time.perf_counter() - began) / len(found)
    if method is integrated:  # what is measured here is what the report shows
        for one, other in zip(values, shipped, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-3)
    networks = [randomise(predictor.network, *one) for one in RANDOM]
    tested = Randomised.of(
        values, *([method(predictor, network, case) for case in found] for network in networks)
    )
    return {
        "random_head": tested.head,
        "random_weights": tested.whole,
        "passed": tested.passed,
        **_curves(predictor, found, [np.argsort(-one, kind="stable") for one in values]),
        "ms_a_row": round(each, 2),
    }


def _curves(predictor: Predictor, found: list[Case], orders: list[np.ndarray]) -> dict[str, float]:
    made = [
        curves(predictor, case, order) for case, order in zip(found, orders, strict=True) if case.parts > 1
    ]
    deletion, insertion = np.mean(made, axis=0)
    return {"deletion": round(float(deletion), 3), "insertion": round(float(insertion), 3)}


def explained(into: Path, recipe: str | None, overrides: list[str]) -> dict[str, Any]:
    predictor, data = trained(into, recipe, overrides)
    test = data.split("test")
    places = np.linspace(0, len(test) - 1, min(ROWS, len(test))).round().astype(int)
    settings = json.loads((into / "model" / SETTINGS).read_text(encoding="utf-8"))
    return {"seed": settings["training"]["seed"], **figures(predictor, test.take(pa.array(places)))}


def transfer(into: Path) -> dict[str, Any]:
    trained(into / "backbone", "digits-backbone", [])
    start = [f"backbone.weights={into / 'backbone' / 'model'}"]
    return explained(into / "transfer", "digits-resnet18", start)


def spoken(into: Path) -> dict[str, Any]:
    if not (into / "fsdd").exists():
        with tarfile.open(FSDD) as archive:
            archive.extractall(into / "fsdd", filter="data")
    recordings = next((into / "fsdd").rglob("recordings"))
    return explained(into / "spoken", "spoken-digit-classes", [f"source.path={recordings}"])


WORK: dict[str, Callable[[Path], dict[str, Any]]] = {
    "sentiment": lambda into: explained(into / "sentiment", None, []),
    "digits": lambda into: explained(into / "digits", "digits-mlp", []),
    "small": lambda into: explained(
        into / "small", "digits-resnet18", ["training.strategy=scratch", "backbone.weights=''"]
    ),
    "transfer": transfer,
    "spoken": spoken,
    "flipped": flipped,
    "chance": chance,
    "seconds": seconds,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--into", type=Path)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(WORK))
    arguments = parser.parse_args()
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in arguments.names or list(WORK):
        with tempfile.TemporaryDirectory() as scratch:
            found = WORK[name](arguments.into or Path(scratch))
        kept[name] = {"machine": machine(), "seed": 0, **found}
        print(name, json.dumps(found, indent=1), flush=True)
        RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
