"""The proof that a registered version serves: a fresh process loads it and answers as evaluate did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from retrainer.errors import UserError
from retrainer.registry.bundle import raw_frame
from retrainer.services.address import registry_uri, tracking_uri, without_credentials
from retrainer.services.readers import RegisteredVersion

# A probability may differ by this much: another machine, number of threads or device.
TOLERANCE = 1e-4

_ASK = Path(__file__).with_name("ask_served.py")
_SECONDS = 600
_TAIL = 400

# Labels that evaluate gave to a row, and every label's probability.
Stored = tuple[list[str], dict[str, float]]


def check_serving(version: RegisteredVersion, sample: pa.Table, labels: list[str]) -> None:
    """Asks the version for the raw inputs of the report's sample, as a stranger would.

    `sample` holds beside them what evaluate stored: `decided` and `probabilities` in the order of `labels`.

    Raises UserError that says what differed from the stored predictions, or why it does not answer at all.
    """
    uri = f"models:/{version.name}/{version.version}"
    found = _ask(uri, sample)
    if found["strays"]:
        raise UserError(f"{uri} does not serve by itself: it imported {found['strays'][0]}")
    if difference := _difference(found["answers"], _stored(sample, labels)):
        raise UserError(f"{uri} does not serve what was evaluated: {difference}; no alias was moved")


def _stored(sample: pa.Table, labels: list[str]) -> list[Stored]:
    rows = zip(sample["decided"].to_pylist(), sample["probabilities"].to_pylist(), strict=True)
    return [(decided, dict(zip(labels, probabilities, strict=True))) for decided, probabilities in rows]


def _difference(answers: list[dict[str, Any]], stored: list[Stored]) -> str:
    """What differs, in words; empty when nothing does."""
    if len(answers) != len(stored):
        return f"{len(answers)} answers to {len(stored)} inputs"
    for row, (answer, (labels, expected)) in enumerate(zip(answers, stored, strict=True), start=1):
        for label, probability in answer["probabilities"].items():
            before = expected.get(label, 0.0)
            if not abs(probability - before) <= TOLERANCE:
                return f"sample {row} has '{label}' with {probability:.6f}, evaluate stored {before:.6f}"
        served = set(answer["labels"] if "labels" in answer else [answer["label"]])
        if any(not _undecided(label, expected) for label in served ^ set(labels)):
            return f"sample {row} is {sorted(served)}, evaluate stored {sorted(labels)}"
    return ""


def _undecided(label: str, probabilities: Mapping[str, float]) -> bool:
    """Whether a difference within the tolerance can have turned this label on or off."""
    own = probabilities.get(label, 0.0)
    return min(abs(own - 0.5), max(probabilities.values()) - own) <= 2 * TOLERANCE


def _ask(uri: str, sample: pa.Table) -> dict[str, Any]:
    """Runs `ask_served.py` where nothing of this project can be found, nor any cache of weights."""
    with tempfile.TemporaryDirectory() as scratch:
        inputs, answers, cwd = (Path(scratch) / name for name in ("inputs.parquet", "answers.json", "empty"))
        cwd.mkdir()
        pq.write_table(pa.Table.from_pandas(raw_frame(sample), preserve_index=False), inputs)
        caches = dict.fromkeys(("HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME"), str(cwd))
        places = {"MLFLOW_TRACKING_URI": tracking_uri(), "MLFLOW_REGISTRY_URI": registry_uri()}
        command = [sys.executable, "-I", "-B", str(_ASK), uri, str(inputs), str(answers)]
        environment = os.environ | caches | places | {"HF_HUB_OFFLINE": "1"}
        try:
            done = subprocess.run(
                command,
                cwd=cwd,
                env=environment,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"{uri} does not serve: no answer within {_SECONDS} s") from None
        if done.returncode != 0:
            reason = without_credentials(" ".join(done.stderr.split()))[-_TAIL:]
            raise UserError(f"{uri} does not serve in a process of its own: {reason}")
        return dict(json.loads(answers.read_text(encoding="utf-8")))
