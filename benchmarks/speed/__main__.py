"""The engine's benchmarks on this machine: `python -m benchmarks.speed [NAME …] [--once]`.

Prints one table a job and keeps every run, with machine and versions, in a file for this kind of processor,
`benchmarks/results/speed-….json` (the jobs that were not run keep what they had). `--once` runs a single
round of each.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks._runs import machine
from benchmarks.speed._table import table
from benchmarks.speed.race import Job, race

RESULTS = Path(__file__).parent.parent / "results"
# Each names its `JOBS`.
_MODULES = ("bert", "banking77", "resnet", "cifar10", "mlp", "equal")


def jobs() -> dict[str, Job]:
    found = [importlib.import_module(f"benchmarks.speed.{name}").JOBS for name in _MODULES]
    return {job.name: job for some in found for job in some}


def results_of(processor: str) -> Path:
    """Where the runs on such a processor are kept: ratios differ from one to another."""
    words = re.findall(r"[a-z0-9]+", processor.lower())
    return RESULTS / f"{'-'.join(['speed', *words])}.json"


def main(arguments: list[str]) -> None:
    known, once = jobs(), "--once" in arguments
    wanted = [name for name in arguments if name != "--once"] or list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise SystemExit(f"no benchmark {unknown[0]}; there are {', '.join(known)}")
    results = results_of(machine()["cpu"])
    kept: dict[str, Any] = json.loads(results.read_text()) if results.is_file() else {}
    for name in wanted:
        runs = race(known[name], once)
        kept[name] = {"when": datetime.now(UTC).date().isoformat(), "machine": machine(), "runs": runs}
        results.write_text(json.dumps(kept, indent=1) + "\n")
        print("\n" + table(known[name], runs), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
