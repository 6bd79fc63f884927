"""How often the gate promotes noise, and how often it finds a gain: by simulation and by real retraining.

    python -m benchmarks.trust.gate [simulate] [answers] [retrain] [year]

`answers` draws equal models of boxes and of texts; `retrain` trains one recipe with many seeds; `year`
follows twelve monthly retrains, simulated, and real ones where `retrain` runs too. Results go to
benchmarks/results/trust_gate.json; a part that is not run keeps what it had.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._runs import ROOT, machine
from benchmarks.trust import _bootstraps, _equal_answers, _retrained, _simulated

RESULTS = ROOT / "benchmarks" / "results" / "trust_gate.json"
SEED = 2026
YEARS = 5000
# (rows, trials) of the resampling tests, which cost seconds a thousand.
BOOTSTRAPPED = ((200, 4000), (500, 3000), (1000, 1500))
# (metric, rows, trials) of boxes and texts: a test of 200 images costs about half a second.
ANSWERED = (
    ("average_precision_50", 60, 1000),
    ("average_precision_50", 200, 500),
    *(("word_error_rate", rows, 4000) for rows in (60, 200)),
    *(("bleu", rows, 2000) for rows in (60, 200)),
)
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


def answers() -> Tables:
    return {"boxes and texts": [_equal_answers.equal_answers(*case, SEED) for case in ANSWERED]}


def retrain(studies: dict[int, np.ndarray]) -> Tables:
    tables: Tables = {
        "seeds": [{"epochs": epochs, **_retrained.spread(right)} for epochs, right in studies.items()]
    }
    for epochs, right in studies.items():
        tables[f"pairs of seeds, {epochs} epochs"] = _retrained.pairs(right, SEED)
    return tables


def year(studies: dict[int, np.ndarray]) -> Tables:
    tables: Tables = {
        "a year, simulated": [
            row for scatter in (0.0, 0.005) for row in _simulated.year(scatter, YEARS, 500, SEED)
        ]
    }
    for epochs, right in studies.items():
        tables[f"a year, retrained with {epochs} epochs"] = _retrained.year(right, YEARS, SEED)
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
    names = names or ["simulate", "answers", "retrain", "year"]
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    studies = _trained() if "retrain" in names else {}
    for name in names:
        began = time.perf_counter()
        tables = _part(name, studies)
        seconds = round(time.perf_counter() - began, 1)
        kept[name] = {"machine": machine(), "seed": SEED, "seconds": seconds, "tables": tables}
        for title, rows in tables.items():
            print(f"\n### {title}\n\n{table(rows)}", flush=True)
        print(f"\n{name}: {seconds} s", flush=True)
        RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def _trained() -> dict[int, np.ndarray]:
    found = {}
    for epochs in _retrained.EPOCHS:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as into:
            found[epochs] = _retrained.answered(Path(into), epochs)
        print(
            f"trained {_retrained.MODELS} models, {epochs} epochs: {time.perf_counter() - began:.0f} s",
            flush=True,
        )
    return found


def _part(name: str, studies: dict[int, np.ndarray]) -> Tables:
    if name in ("simulate", "answers"):
        return {"simulate": simulate, "answers": answers}[name]()
    return {"retrain": retrain, "year": year}[name](studies)


if __name__ == "__main__":
    main(sys.argv[1:])
