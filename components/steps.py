"""The steps in order, and all there is to say of each beside its signature.

Images, pods, caches, replays and digests of code follow from it. A step NAME is the function NAME of
`components/NAME.py`; docs/extending.md tells how to add one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# What of the cluster's secrets a step is lent: `pipelines/_pods.py` has the variables of each word.
Lent = Literal["mlflow", "s3", "dvc", "checkpoints", "mirror"]


@dataclass(frozen=True)
class Facts:
    """How a step's pod runs, and what may be done with its results.

    image: `light` has no torch and is a tenth of the size.
    cpu, memory: what the pod asks for where the settings do not say.
    pure: no side effects, and the same inputs give the same bytes, so that a cache may answer.
    registry: it reads the registry of models, or changes it.
    scheduled: it writes down when a schedule started the run.
    gpus: it gets the GPUs, the shared memory and the volume for checkpoints.
    secrets: what it is lent: the address and credentials of MLflow, those of S3, the address of DVC's remote,
    that of checkpoints, the token of Kubeflow's Model Registry. Its pod is told nothing else.
    """

    image: Literal["light", "full"]
    cpu: str
    memory: str
    pure: bool = False
    registry: bool = False
    scheduled: bool = False
    gpus: bool = False
    secrets: tuple[Lent, ...] = ()


FACTS = {
    "ingest": Facts("light", "1", "2Gi", scheduled=True, secrets=("s3", "dvc")),
    "preprocess": Facts("light", "1", "2Gi", pure=True),
    "decide": Facts("full", "1", "4Gi", registry=True, secrets=("mlflow", "s3")),
    "train": Facts("full", "2", "8Gi", pure=True, gpus=True, secrets=("mlflow", "s3", "checkpoints")),
    "evaluate": Facts("full", "2", "4Gi", registry=True, secrets=("mlflow", "s3")),
    "register": Facts("full", "1", "4Gi", registry=True, scheduled=True, secrets=("mlflow", "s3", "mirror")),
}
STEPS = tuple(FACTS)
# Whether to train at all is asked of this step by `make retrain`, and on a cluster unless `retrain.policy` is
# `always`; the steps behind it then await its choice. `make pipeline` trains without asking.
DECIDE = "decide"
STEPS_WITHOUT_DECIDE = tuple(step for step in STEPS if step != DECIDE)
