"""Spoken digits: error rates of speakers that the network has never heard, beside both baselines.

    python -m benchmarks.speech [recognition] [classification] [compute.threads=1 …]

Reads the Free Spoken Digit Dataset in ../shared/data. Each run holds one speaker out and trains on the other
five. The recipes' settings were chosen by holding out the four speakers that are not in the tables;
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
# (held-out speaker, seed). No setting was chosen by these two speakers' recordings.
RUNS = [(speaker, seed) for seed in (0, 1, 2) for speaker in ("theo", "jackson")]
# Study → its recipe and the metrics that its table shows, the baselines' by the first.
STUDIES = {
    "recognition": ("spoken-digits", "word_error_rate", "character_error_rate"),
    "classification": ("spoken-digit-classes", "accuracy", "macro_f1"),
}

Row = dict[str, Any]


def run(study: str, speaker: str, seed: int, overrides: list[str], into: Path) -> Row:
    """One whole run, ingest to evaluate."""
    recipe, metric, _ = STUDIES[study]
    settings = [*overrides, f"source.path={DATA}", f"source.test_groups=[{speaker}]"]
    began = time.perf_counter()
    settings.append(f"training.seed={seed}")
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


def table(rows: list[Row], metric: str, further: str) -> str:
    """A line a speaker, and the mean of them all."""
    names = list(rows[0]["baselines"])
    heads = " ".join(f"{name:>16}" for name in names)
    lines = [f"{'speaker':10} seeds  {metric:>16}   ± sd {further:>20} {heads}  whole run s"]
    means = []
    for name in dict.fromkeys(row["speaker"] for row in rows):
        mine = [row for row in rows if row["speaker"] == name]
        values = [row[metric] for row in mine]
        means.append(statistics.mean(values))
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        second = statistics.mean(row[further] for row in mine)
        cheap = " ".join(f"{statistics.mean(row['baselines'][one] for row in mine):16.4f}" for one in names)
        seconds = statistics.median(row["seconds"] for row in mine)
        lines.append(
            f"{name:10} {len(mine):5}  {means[-1]:16.4f} {spread:6.4f} {second:20.4f} {cheap} {seconds:12.1f}"
        )
    lines.append(f"{'mean':10} {'':5}  {statistics.mean(means):16.4f}")
    return "\n".join(lines)


def main(names: list[str]) -> None:
    """Names are studies; one with an equals sign is a setting of every run, as compute.threads=1."""
    overrides = [name for name in names if "=" in name]
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as into:
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{into}/mlflow.db")
        for study in [name for name in names if "=" not in name] or list(STUDIES):
            rows: list[Row] = []
            for speaker, seed in RUNS:
                rows.append(run(study, speaker, seed, overrides, Path(into)))
                kept = {"machine": machine(), "overrides": overrides, "rows": rows}
                (RESULTS / f"speech-{study}.json").write_text(json.dumps(kept, indent=1) + "\n")
            print(table(rows, *STUDIES[study][1:]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
