"""What is kept of the months: this project's in one file, other pipelines' in another."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks._runs import ROOT, machine

RESULTS = ROOT / "benchmarks" / "results" / "trust_careless.json"
PEERS = ROOT / "benchmarks" / "results" / "trust_careless_peers.json"
# Of the months with a mistake; a clean one has a seed of its own.
SEED = 2026


def kept(path: Path = RESULTS) -> dict[str, Any]:
    """Empty where no month has been run."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def months(kind: str, part: str) -> dict[str, Any]:
    """Name → what became of it. `part`: mistakes or clean."""
    found: dict[str, Any] = kept().get("ours", {}).get(kind, {}).get(part, {})
    return found


def keep(kind: str, told: dict[str, Any]) -> None:
    """Adds to what is kept of a dataset: months to its months, all else as it is."""
    every = kept() | {"machine": machine(), "seed": SEED, "date": datetime.now(UTC).date().isoformat()}
    part = every.setdefault("ours", {}).setdefault(kind, {})
    for name, value in told.items():
        part[name] = {**part.get(name, {}), **value} if name in ("mistakes", "clean") else value
    RESULTS.write_text(json.dumps(every, indent=1, ensure_ascii=False) + "\n")
