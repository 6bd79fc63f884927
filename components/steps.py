"""What there is to say of each step beside its signature, once; and the steps in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Facts:
    """How a step's pod runs, and what may be done with its results.

    image: `light` has no torch and is a tenth of the size. cpu and memory: what the pod asks for by default.
    pure: the same inputs give the same bytes, so that a cache may answer. registry: it reads the registry of
    models, or changes it. scheduled: it writes down when a schedule started the run.
    """

    image: Literal["light", "full"]
    cpu: str
    memory: str
    pure: bool = False
    registry: bool = False
    scheduled: bool = False


FACTS = {
    "ingest": Facts("light", "1", "2Gi", scheduled=True),
    "preprocess": Facts("light", "1", "2Gi", pure=True),
    "decide": Facts("full", "1", "4Gi", registry=True),
    "train": Facts("full", "2", "8Gi", pure=True),
    "evaluate": Facts("full", "2", "4Gi", registry=True),
    "register": Facts("full", "1", "4Gi", registry=True, scheduled=True),
}
STEPS = tuple(FACTS)
# The step whose choice the others await; a pipeline by the policy `always` goes without it.
DECIDE = "decide"
