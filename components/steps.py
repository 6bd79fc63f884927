"""The steps in order, and all there is to say of each beside its signature.

Images, pods, caches, replays and digests of code follow from it. A step NAME is the function NAME of
`components/NAME.py`; docs/extending.md tells how to add one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Facts:
    """How a step's pod runs, and what may be done with its results.

    image: `light` has no torch and is a tenth of the size.
    cpu, memory: what the pod asks for where the settings do not say.
    pure: no side effects, and the same inputs give the same bytes, so that a cache may answer.
    registry: it reads the registry of models, or changes it.
    scheduled: it writes down when a schedule started the run.
    gpus: it gets the GPUs, the shared memory and the volume for checkpoints.
    on_request: `make pipeline` goes without it, and so does a cluster's pipeline by the policy `always`.
    """

    image: Literal["light", "full"]
    cpu: str
    memory: str
    pure: bool = False
    registry: bool = False
    scheduled: bool = False
    gpus: bool = False
    on_request: bool = False


FACTS = {
    "ingest": Facts("light", "1", "2Gi", scheduled=True),
    "preprocess": Facts("light", "1", "2Gi", pure=True),
    "decide": Facts("full", "1", "4Gi", registry=True, on_request=True),
    "train": Facts("full", "2", "8Gi", pure=True, gpus=True),
    "evaluate": Facts("full", "2", "4Gi", registry=True),
    "register": Facts("full", "1", "4Gi", registry=True, scheduled=True),
}
STEPS = tuple(FACTS)
# The step whose choice the others await, where it is asked.
(DECIDE,) = (step for step, facts in FACTS.items() if facts.on_request)
