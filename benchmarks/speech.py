"""Spoken digits: error rates of speakers that the network has never heard, beside both baselines.

    python -m benchmarks.speech [recognition] [classification]

Reads the Free Spoken Digit Dataset in ../shared/data. Each run holds one speaker out;
prints one table a study and writes `benchmarks/results/speech-<study>.json` with machine, versions and seeds.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._runs import ROOT, machine, run_recipe

RESULTS = Path(__file__).parent / "results"
DATA = ROOT.parent / "shared" / "data" / "fsdd.tar.xz"
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
SEEDS = range(3)
# Study → its recipe and the metric that its table shows.
STUDIES = {
    "recognition": ("spoken-digits", "word_error_rate"),
    "classification": ("spoken-digit-classes", "accuracy"),
}

Row = dict[str, Any]


def run(study: str, speaker: str, seed: int, into: Path) -> Row:
    """One whole run, ingest to evaluate."""
    recipe, metric = STUDIES[study]
    settings = [f"source.path={DATA}", f"source.test_groups=[{speaker}]", f"training.seed={seed}"]
    began = time.perf_counter()
    figures = run_recipe(recipe, settings, into / f"{study}-{speaker}-{seed}")
    found = figures["metrics"]
    return {
        "speaker": speaker,
        "seed": seed,
        **{name: one["value"] for name, one in found.items()},
        "interval": [found[metric]["low"], found[metric]["high"]],
        "n": found[metric]["n"],
        "baselines": {name: one["metrics"][metric]["value"] for name, one in figures["baselines"].items()},
        "train_seconds": round(figures["train_seconds"], 1),
        "seconds": round(time.perf_counter() - began, 1),
    }


def table(rows: list[Row], metric: str) -> str:
    """A line a speaker, and the mean of all."""
    names = list(rows[0]["baselines"])
    heads = " ".join(f"{name:>16}" for name in names)
    lines = [f"{'speaker':10} seeds  {metric:>16}   ± sd {heads}  whole run s"]
    for name in [*dict.fromkeys(row["speaker"] for row in rows), "all"]:
        mine = [row for row in rows if name in (row["speaker"], "all")]
        values = [row[metric] for row in mine]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        cheap = " ".join(f"{statistics.mean(row['baselines'][one] for row in mine):16.4f}" for one in names)
        seconds = statistics.median(row["seconds"] for row in mine)
        mean = statistics.mean(values)
        lines.append(f"{name:10} {len(mine):5}  {mean:16.4f} {spread:6.4f} {cheap} {seconds:12.1f}")
    return "\n".join(lines)


def main(names: list[str]) -> None:
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as into:
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{into}/mlflow.db")
        for study in names or list(STUDIES):
            rows = [run(study, speaker, seed, Path(into)) for speaker in SPEAKERS for seed in SEEDS]
            kept = json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n"
            (RESULTS / f"speech-{study}.json").write_text(kept)
            print(table(rows, STUDIES[study][1]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
