"""How often the gate promotes noise, and how often it finds a gain: by simulation and by real retraining.

    python -m benchmarks.trust.gate [simulate] [retrain] [year]

`retrain` trains one recipe with many seeds; `year` follows twelve monthly retrains, simulated, and real ones
where `retrain` runs too. Results go to benchmarks/results/trust_gate.json; a part that is not run keeps
what it had.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._runs import ROOT, machine
from benchmarks.trust import _bootstraps, _retrained, _simulated

RESULTS = ROOT / "benchmarks" / "results" / "trust_gate.json"
SEED = 2026
YEARS = 5000
# (rows, trials) of the resampling tests, which cost seconds a thousand.
BOOTSTRAPPED = ((200, 4000), (500, 3000), (1000, 1500))
Tables = dict[str, list[dict[str, Any]]]


def simulate() -> Tables:
    cases = [
        (metric, rows, case, trials)
        for metric in ("macro_f1", "log_loss")
        for rows, trials in BOOTSTRAPPED
        for case in ("equal", "worse by the margin")
    ]
    return {
        "equal models": _simulated.equal_models(SEED),
        "better models": _simulated.better_models(SEED),
        "other metrics": [_bootstraps.sizes(*case, SEED) for case in cases],
    }


def retrain(right: np.ndarray) -> Tables:
    return {
        "seeds": [_retrained.spread(right)],
        "pairs of seeds": _retrained.pairs(right, SEED),
    }


def year(right: np.ndarray | None) -> Tables:
    tables: Tables = {
        "a year, simulated": [
            row for scatter in (0.0, 0.005) for row in _simulated.year(scatter, YEARS, 500, SEED)
        ]
    }
    if right is not None:
        tables["a year, retrained"] = _retrained.year(right, YEARS, SEED)
    return tables


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown; a row without a column has an empty cell."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(_cell(row.get(name, "")) for name in columns) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(names: list[str]) -> None:
    names = names or ["simulate", "retrain", "year"]
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    right = None
    if "retrain" in names:
        with tempfile.TemporaryDirectory() as into:
            os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{into}/mlflow.db")
            right = _retrained.answered(Path(into))
    for name in names:
        began = time.perf_counter()
        tables = _part(name, right)
        seconds = round(time.perf_counter() - began, 1)
        kept[name] = {"machine": machine(), "seed": SEED, "seconds": seconds, "tables": tables}
        for title, rows in tables.items():
            print(f"\n### {title}\n\n{table(rows)}", flush=True)
        print(f"\n{name}: {seconds} s", flush=True)
        RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def _part(name: str, right: np.ndarray | None) -> Tables:
    if name == "retrain":
        assert right is not None, "main trains the models"
        return retrain(right)
    return {"simulate": simulate, "year": lambda: year(right)}[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
