"""The proof that a registered version serves: MLflow's scoring server answers for it as evaluate did."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa

from retrainer import extend
from retrainer.errors import UserError
from retrainer.formats.columns import encoded_columns
from retrainer.registry.bundle import raw_frame
from retrainer.services.isolated import Failed, begun, run_isolated
from retrainer.services.readers import RegisteredVersion

# A probability may differ by this much: another machine, number of threads or device.
TOLERANCE = 1e-4

_ASK = Path(__file__).with_name("ask_served.py")
_TIMEOUT_SECONDS = 600.0

# Labels that evaluate gave to a row, and every label's probability.
Stored = tuple[list[str], dict[str, float]]


def serving_check_begun(family: str) -> AbstractContextManager[None]:
    """Inside, the process that `check_serving` needs is on its way: its imports are most of its time.

    `family` is that of the model which is about to be registered.
    """
    built_in = "." not in family  # a plug-in's imports are its own affair
    module = extend.load("models", family, "backbone.family") if built_in else None
    return begun(_ASK, ["torch", *getattr(module, "IMPORTED", ())])


def check_serving(
    version: RegisteredVersion, sample: pa.Table, inputs: Iterable[str], labels: list[str]
) -> None:
    """Asks the version for the raw inputs of the report's sample (the columns `inputs`), as a stranger would.

    `sample` holds beside them what evaluate stored: `decided` and `probabilities` in the order of `labels`.

    Raises UserError that says what differed from the stored predictions, or why it does not answer at all.
    """
    uri = f"models:/{version.name}/{version.version}"
    found = ask(uri, sample.select([name for name in inputs if name in sample.column_names]))
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


def ask(uri: str, inputs: pa.Table) -> dict[str, Any]:
    """What `ask_served.py` finds in an isolated process. Raises UserError when it finds nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        request, answers = (Path(scratch) / name for name in ("request.json", "answers.json"))
        request.write_text(json.dumps(request_of(inputs)), encoding="utf-8")
        try:
            run_isolated(_ASK, [uri, str(request), str(answers)], _TIMEOUT_SECONDS)
        except Failed as error:
            raise UserError(f"{uri} cannot be served over HTTP: {error}; no alias was moved") from None
        return dict(json.loads(answers.read_text(encoding="utf-8")))


def request_of(inputs: pa.Table) -> dict[str, Any]:
    """Raw inputs as a client sends them to /invocations: images and sounds as base64 text."""
    frame = raw_frame(inputs)
    for name in encoded_columns(inputs.schema):
        frame[name] = [base64.b64encode(content).decode() for content in frame[name]]
    return {"dataframe_split": {"columns": list(frame.columns), "data": frame.to_numpy().tolist()}}
