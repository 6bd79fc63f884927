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
    """

    image: Literal["light", "full"]
    cpu: str
    memory: str
    pure: bool = False
    registry: bool = False
    scheduled: bool = False
    gpus: bool = False


FACTS = {
    "ingest": Facts("light", "1", "2Gi", scheduled=True),
    "preprocess": Facts("light", "1", "2Gi", pure=True),
    "decide": Facts("full", "1", "4Gi", registry=True),
    "train": Facts("full", "2", "8Gi", pure=True, gpus=True),
    "evaluate": Facts("full", "2", "4Gi", registry=True),
    "register": Facts("full", "1", "4Gi", registry=True, scheduled=True),
}
STEPS = tuple(FACTS)
# Whether to train at all is asked of this step by `make retrain`, and on a cluster unless `retrain.policy` is
# `always`; the steps behind it then await its choice. `make pipeline` trains without asking.
DECIDE = "decide"
STEPS_WITHOUT_DECIDE = tuple(step for step in STEPS if step != DECIDE)
