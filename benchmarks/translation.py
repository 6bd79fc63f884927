"""BLEU and chrF of the recipe `translation` on Multi30k, German to English, beside its two baselines.

    python -m benchmarks.translation [seed …] [section.key=value …]

Reads ../shared/data/multi30k (29,000 training and 1,014 validation pairs; test_2016_flickr is the test set).
Each seed runs ingest to evaluate by the Python door; `benchmarks/results/translation.json` keeps the rows.
Texts are scored as they are written (mixed case, 13a), as sacrebleu does by default.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._runs import ROOT, machine, run_recipe

RESULTS = Path(__file__).parent / "results" / "translation.json"
MULTI30K = ROOT.parent / "shared" / "data" / "multi30k"
METRICS = ("bleu", "chrf")


def measure(seed: int, overrides: list[str], into: Path) -> dict[str, Any]:
    """One run of the recipe: its figures, intervals, seconds, and the seconds that its cores worked."""
    began, worked = time.perf_counter(), time.process_time()
    own = [f"source.path={MULTI30K}", f"training.seed={seed}"]
    found = run_recipe("translation", [*own, *overrides], into / f"seed-{seed}")
    scored = {"model": found, **found["baselines"]}
    return {
        "seed": seed,
        **{name: {metric: each["metrics"][metric] for metric in METRICS} for name, each in scored.items()},
        "length_ratio": found["details"]["length_ratio"],
        "train_seconds": round(found["train_seconds"], 1),
        "seconds": round(time.perf_counter() - began, 1),
        "core_seconds": round(time.process_time() - worked, 1),
        "overrides": overrides,
    }


def line(row: dict[str, Any]) -> str:
    names = ("model", "nearest_text", "copy_source")
    scores = "  ".join(
        f"{name} {row[name]['bleu']['value']:.2f} BLEU {row[name]['chrf']['value']:.2f} chrF"
        for name in names
    )
    return f"seed {row['seed']}: {scores}; trained in {row['train_seconds']:.0f} of {row['seconds']:.0f} s"


def main(words: list[str]) -> None:
    if not MULTI30K.is_dir():
        sys.exit(f"{MULTI30K} is absent: this benchmark reads Multi30k from there")
    overrides = [word for word in words if "=" in word]
    seeds = [int(word) for word in words if "=" not in word]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as into:
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{into}/mlflow.db")
        for seed in seeds or range(3):
            rows.append(measure(seed, overrides, Path(into)))
            print(line(rows[-1]), flush=True)
            RESULTS.parent.mkdir(exist_ok=True)
            kept = {"machine": machine(), "data": "Multi30k, de-en, test_2016_flickr", "rows": rows}
            RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
