"""How the steps run as pods."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from retrainer.settings.section import Section

# As Kubernetes writes amounts: half a core is 500m or 0.5, two gibibytes are 2Gi; empty takes the default.
Cores = Annotated[str, Field(pattern=r"^(\d+(\.\d+)?|\d+m)?$")]
Bytes = Annotated[str, Field(pattern=r"^(\d+(Ki|Mi|Gi|Ti|k|M|G|T)?)?$")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
SecretName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.\-]*[a-z0-9])?$")]
KubernetesName = Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9.\-]*[a-z0-9])?)?$")]


class Resources(Section):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    cpu: Cores = Field("", description="cores asked for; empty: the step's default")
    memory: Bytes = Field("", description="memory asked for; empty: the step's default")
    cpu_limit: Cores = Field("", description="most cores; empty: as many as asked for")
    memory_limit: Bytes = Field("", description="most memory; empty: as much as asked for")


class Toleration(Section):
    key: str = Field("", description="the taint's key; empty with Exists tolerates every taint")
    operator: Literal["Exists", "Equal"] = Field("Exists", description="Equal compares the taint's value")
    value: str = Field("", description="the taint's value, for Equal")
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = Field("", description="empty: all")


class Cluster(Section):
    """How the steps run as pods. Read when a pipeline is compiled and submitted; no step sees it."""

    experiment: str = Field("", description="of Kubeflow's and MLflow's runs; empty: the model's name")
    model_prefix: str = Field(
        "", pattern=r"^[A-Za-z0-9_.\-]*$", description="before the names of registered models, as 'team-'"
    )
    mlflow_secret: KubernetesName = Field(
        "", description="secret with MLFLOW_TRACKING_URI and its credentials"
    )
    storage_secret: KubernetesName = Field(
        "", description="secret with AWS_* and RETRAINER_* addresses of S3"
    )
    webhook_secret: KubernetesName = Field(
        "", description="secret with RETRAINER_WEBHOOK, which an exit task tells how a run ended; empty: none"
    )
    kubeflow_registry_secret: KubernetesName = Field(
        "", description="secret with RETRAINER_KUBEFLOW_REGISTRY_TOKEN, or _TOKEN_FILE, for registry.kubeflow"
    )
    step_secrets: dict[str, dict[SecretName, tuple[Variable, ...]]] = Field(
        {},
        description="further secrets by step, and which of their keys become variables of its pod, as in"
        " {ingest: {my-database: [MY_DATABASE]}}",
    )
    launcher_keys: bool = Field(
        False,
        description="lend the AWS_* of storage_secret to every step: where artifacts lie in s3:// and"
        " Kubeflow's ConfigMap kfp-launcher names no provider, its launcher takes them out of the step's own",
    )
    image_holds: tuple[str, ...] = Field(
        (),
        description="files and folders of this project that the image of IMAGE= holds at the same place:"
        " a source, weights or a trainer of them is then not refused",
    )
    service_account: KubernetesName = Field("", description="the pods' account; empty: Kubeflow's own")
    image_pull_secrets: tuple[str, ...] = Field((), description="secrets of the image's registry")
    labels: dict[str, str] = Field({}, description="on every pod, for example cost-centre: vision")
    node_selector: dict[str, str] = Field({}, description="labels of the nodes that may run the steps")
    tolerations: tuple[Toleration, ...] = Field((), description="taints that the steps' pods accept")
    resources: dict[str, Resources] = Field({}, description="cores and memory by step")
    train_node_selector: dict[str, str] = Field({}, description="further labels of the nodes for train")
    train_tolerations: tuple[Toleration, ...] = Field(
        (), description="further taints that train's pod accepts"
    )
    gpus: int = Field(0, ge=0, description="GPUs of train; compute.device cuda takes at least one")
    gpu_type: str = Field("nvidia.com/gpu", min_length=1, description="the GPU's resource name")
    gpu_node_selector: dict[str, str] = Field({}, description="labels of the nodes for train with a GPU")
    gpu_tolerations: tuple[Toleration, ...] = Field(
        (Toleration(key="nvidia.com/gpu", operator="Exists", value="", effect="NoSchedule"),),
        description="taints that such a pod accepts",
    )
    scratch: Bytes = Field("", description="most that a step's /tmp may hold; empty: what the node has")
    shared_memory: Bytes = Field("1Gi", description="/dev/shm of train; empty: the node's 64 MB")
    timeout_seconds: int = Field(86_400, ge=0, description="longest time of a step's pod; 0: no end")
    retries: int = Field(2, ge=0, le=10, description="new tries of a step that failed or was preempted")
    backoff_seconds: int = Field(60, ge=0, description="wait before the first retry, then twice as long")
    checkpoint_volume: KubernetesName = Field(
        "", description="volume claim where train keeps checkpoints between tries"
    )
    checkpoint_seconds: int = Field(
        300,
        ge=0,
        description="between checkpoints of train, so the most that a killed pod loses; 0: none",
    )
