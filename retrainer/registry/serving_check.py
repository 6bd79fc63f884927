"""The proof that a registered version serves: MLflow's scoring server answers for it as evaluate did."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa

from retrainer import extend
from retrainer.errors import ModelError
from retrainer.formats.columns import encoded_columns, source_names
from retrainer.formats.masks import share_differing
from retrainer.formats.report import PREDICTED
from retrainer.registry.bundle import raw_frame
from retrainer.services.isolated import Failed, begun, run_isolated
from retrainer.services.readers import RegisteredVersion
from retrainer.services.scratch import scratch_directory

# A number may differ by this much, a large one by this share of it: another machine, threads or device.
TOLERANCE = 1e-4
# So large a share of a mask's pixels may differ.
MASK_TOLERANCE = 1e-3
_SHOWN_CHARACTERS = 200

Row = dict[str, Any]

_ASK = Path(__file__).with_name("ask_served.py")
_TIMEOUT_SECONDS = 600.0


def serving_check_begun(family: str) -> AbstractContextManager[None]:
    """Inside, the process that `check_serving` needs is on its way: its imports are most of its time.

    `family` is that of the model which is about to be registered.
    """
    built_in = "." not in family  # a plug-in's imports are its own affair
    module = extend.load("models", family, "backbone.family") if built_in else None
    return begun(_ASK, ["torch", *getattr(module, "IMPORTED", ())])


def check_serving(version: RegisteredVersion, sample: pa.Table, inputs: Iterable[str]) -> float:
    """Asks the version for the raw inputs of the report's sample (the columns `inputs`), as a stranger would.

    `sample` holds beside them what evaluate predicted, by the columns that serving answers with. The version
    answers on a CPU, also where evaluate predicted on a GPU.

    Returns by how much its numbers differ at most, of large ones the share. Raises UserError that says what
    differed by more from the stored predictions, or why it does not answer at all.
    """
    uri = f"models:/{version.name}/{version.version}"
    found = ask(uri, sample.select([name for name in inputs if name in sample.column_names]))
    if found["strays"]:
        raise ModelError(f"{uri} does not serve by itself: it imported {found['strays'][0]}")
    stored = sample.to_pylist()
    if difference := _difference(found["answers"], stored):
        raise ModelError(f"{uri} does not serve what was evaluated: {difference}; no alias was moved")
    rows = zip(found["answers"], stored, strict=True)
    return max(
        (_distance(*pair) for answer, row in rows for pair in _pairs(answer, row)),
        default=0.0,
    )


def _pairs(answer: Row, stored: Row) -> list[tuple[Any, Any]]:
    """What was served beside what evaluate stored, column by column."""
    return [(served, stored.get(f"{PREDICTED}{name}", stored.get(name))) for name, served in answer.items()]


def _distance(served: Any, stored: Any) -> float:
    """The largest difference of numbers that stand at the same place, of large ones the share."""
    if isinstance(stored, float) and isinstance(served, int | float):
        return abs(served - stored) / max(1.0, abs(stored))
    if isinstance(stored, dict) and isinstance(served, dict):
        return max((_distance(served[key], stored[key]) for key in stored), default=0.0)
    if isinstance(stored, list) and isinstance(served, list):
        return max(map(_distance, served, stored), default=0.0)
    return 0.0


def _difference(answers: list[Row], stored: list[Row]) -> str:
    """What differs, in words; empty when nothing does."""
    if len(answers) != len(stored):
        return f"{len(answers)} answers to {len(stored)} inputs"
    for number, (answer, row) in enumerate(zip(answers, stored, strict=True), start=1):
        for name, (served, before) in zip(answer, _pairs(answer, row), strict=True):
            if not _alike(served, before, row.get("probabilities")):
                return f"sample {number} has {name} {_shown(served)}, evaluate stored {_shown(before)}"
    return ""


def _alike(served: Any, stored: Any, probabilities: Mapping[str, float] | None) -> bool:
    """Numbers within the tolerance, all else equal, but for classes that the tolerance turns on or off."""
    if isinstance(stored, float) and isinstance(served, int | float):
        return _distance(served, stored) <= TOLERANCE
    if isinstance(stored, dict) and isinstance(stored.get("bytes"), bytes) and isinstance(served, str):
        # Rounding may decide a pixel between two classes that are equally likely.
        return share_differing(base64.b64decode(served), stored["bytes"]) <= MASK_TOLERANCE
    if isinstance(stored, dict) and isinstance(served, dict):
        return stored.keys() == served.keys() and all(_alike(served[k], stored[k], None) for k in stored)
    names = [{one} if isinstance(one, str) else one for one in (served, stored)]
    if probabilities is not None and all(_are_names(one) for one in names):
        return all(_undecided(label, probabilities) for label in set(names[0]) ^ set(names[1]))
    if isinstance(stored, list) and isinstance(served, list):
        return len(stored) == len(served) and all(map(_alike, served, stored, [None] * len(stored)))
    return bool(served == stored)


def _are_names(value: Any) -> bool:
    return isinstance(value, list | set) and all(isinstance(one, str) for one in value)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def _undecided(label: str, probabilities: Mapping[str, float]) -> bool:
    """Whether a difference within the tolerance can have turned this label on or off."""
    own = probabilities.get(label, 0.0)
    return min(abs(own - 0.5), max(probabilities.values()) - own) <= 2 * TOLERANCE


def ask(uri: str, inputs: pa.Table) -> dict[str, Any]:
    """What `ask_served.py` finds in an isolated process. Raises UserError when it finds nothing."""
    with scratch_directory() as scratch:
        request, answers = (scratch / name for name in ("request.json", "answers.json"))
        request.write_text(json.dumps(request_of(inputs)), encoding="utf-8")
        try:
            run_isolated(_ASK, [uri, str(request), str(answers)], _TIMEOUT_SECONDS)
        except Failed as error:
            raise ModelError(f"{uri} cannot be served over HTTP: {error}; no alias was moved") from None
        return dict(json.loads(answers.read_text(encoding="utf-8")))


def request_of(inputs: pa.Table) -> dict[str, Any]:
    """Raw inputs as a client sends them to /invocations: images and sounds as base64 text."""
    frame, names = raw_frame(inputs), source_names(inputs.schema)
    for name in (names.get(ours, ours) for ours in encoded_columns(inputs.schema)):
        frame[name] = [base64.b64encode(content).decode() for content in frame[name]]
    return {"dataframe_split": {"columns": list(frame.columns), "data": frame.to_numpy().tolist()}}
