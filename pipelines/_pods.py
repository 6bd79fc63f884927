"""What Kubernetes is told about each step's pod, from the settings' section `cluster`."""

from __future__ import annotations

import math
from typing import Any

from kfp import kubernetes

from components.steps import FACTS, Lent
from retrainer.errors import SettingError, nearest
from retrainer.settings import Cluster, Resources, Toleration

# A namespace with a quota rejects pods that ask for nothing.
RESOURCES = {step: {"cpu": facts.cpu, "memory": facts.memory} for step, facts in FACTS.items()}
_WITH_GPUS = {step for step, facts in FACTS.items() if facts.gpus}
RESOURCES["notify"] = {"cpu": "500m", "memory": "512Mi"}  # the exit task, which is no step
SERVE = "serve"  # the model's server, which is none either; settings name it as they name a step
RESOURCES[SERVE] = {"cpu": "1", "memory": "4Gi"}
RESOURCES["predict"] = {"cpu": "2", "memory": "4Gi"}  # the task of the pipeline that predicts, likewise
# Addresses and credentials reach the steps by these names, out of Kubernetes secrets, never as parameters.
# Without MLFLOW_TRACKING_URI each pod would register into a database of its own: its lack stops the pod.
MLFLOW_KEYS = ("MLFLOW_TRACKING_URI",)
MLFLOW_CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
# Of MLflow's secret, and the last address that S3 is looked for at (retrainer/services/s3.py).
MLFLOW_S3 = ("MLFLOW_S3_ENDPOINT_URL",)
PLACE, DVC_REMOTE = "RETRAINER_CHECKPOINTS", "RETRAINER_DVC_REMOTE"
S3_KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
)
KUBEFLOW_KEYS = tuple(f"RETRAINER_KUBEFLOW_REGISTRY{key}" for key in ("", "_TOKEN", "_TOKEN_FILE"))
# What those that are no steps are lent.
_NO_STEPS: dict[str, tuple[Lent, ...]] = {
    "notify": ("mlflow",),
    SERVE: ("mlflow", "s3"),
    "predict": ("mlflow", "s3"),
}
LENT: dict[str, tuple[Lent, ...]] = {step: facts.secrets for step, facts in FACTS.items()} | _NO_STEPS
WEBHOOK_KEYS = tuple(f"RETRAINER_WEBHOOK{key}" for key in ("", "_FORMAT", "_EVENTS", "_ALLOW_HTTP"))
# What `describe` sets.
_OWN = (
    "RETRAINER_KFP_RUN_ID",
    "RETRAINER_IMAGE",
    "MLFLOW_EXPERIMENT_NAME",
    "RETRAINER_CHECKPOINT_SECONDS",
)
LENT_KEYS = (*MLFLOW_KEYS, *MLFLOW_CREDENTIALS, *MLFLOW_S3, *S3_KEYS, DVC_REMOTE, PLACE, *KUBEFLOW_KEYS)
# Where Kubeflow's own label tells the run; the image cannot know it.
RUN_ID = "metadata.labels['pipeline/runid']"
CHECKPOINTS = "/checkpoints"
_BACKOFF_FACTOR = 2.0
# For pods that wait for a node: as long as nobody would wait.
_PENDING_SECONDS = 365 * 86_400


def describe(task: Any, step: str, image: str, settings: dict[str, dict[str, Any]], cluster: Cluster) -> None:
    """Writes onto the task what its pod asks for, may use, and is told by its environment."""
    _ask_for_resources(task, step, cluster)
    # Before what train is given on its own: of two values of one label kfp keeps the last.
    _place(task, cluster.node_selector, cluster.tolerations)
    if step in _WITH_GPUS:
        _equip_training(task, settings["compute"]["device"] == "cuda", cluster)
    # Our images write nowhere else, and Kubeflow's launcher begins by making folders there: a pod whose root
    # is read-only needs it (KFP 2.17, backend/src/v2/driver/driver.go:794, component/launcher_v2.go:1280).
    kubernetes.empty_dir_mount(task, "tmp", "/tmp", size_limit=cluster.scratch or None)
    _outlast_failures(task, cluster)
    _lend_secrets(task, step, cluster)
    for key, value in cluster.labels.items():
        kubernetes.add_pod_label(task, key, value)
    if cluster.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(cluster.image_pull_secrets))
    kubernetes.set_security_context(task, run_as_non_root=True)
    kubernetes.use_field_path_as_env(task, "RETRAINER_KFP_RUN_ID", RUN_ID)
    task.set_env_variable("RETRAINER_IMAGE", image)
    task.set_env_variable("MLFLOW_EXPERIMENT_NAME", cluster.experiment or settings["registry"]["name"])


def _ask_for_resources(task: Any, step: str, cluster: Cluster) -> None:
    wanted = resources_of(step, cluster)
    task.set_cpu_request(wanted.cpu).set_cpu_limit(wanted.cpu_limit)
    task.set_memory_request(wanted.memory).set_memory_limit(wanted.memory_limit)


def resources_of(step: str, cluster: Cluster) -> Resources:
    """The step's resources with every default filled in."""
    given = cluster.plain()["resources"].get(step, {})
    asked = RESOURCES[step] | {key: amount for key, amount in given.items() if amount}
    limits = {"cpu_limit": asked["cpu"], "memory_limit": asked["memory"]}
    return Resources.parse(limits | asked, f"cluster.resources.{step}")


def check_steps(cluster: Cluster) -> None:
    """Raises UserError where a setting names no step, or lends a variable that another secret gives."""
    for setting, by_step in (("resources", cluster.resources), ("step_secrets", cluster.step_secrets)):
        for step in by_step:
            if step not in (known := RESOURCES.keys() - {"notify"}):
                raise SettingError(f"cluster.{setting}: there is no step {step!r}{nearest(step, known)}")
    for step, secrets in cluster.step_secrets.items():
        # Kubernetes refuses a variable that is given twice.
        given = [*_OWN, *(key for _, keys, _ in lent_to(step, cluster) for key in keys)]
        for key in (key for keys in secrets.values() for key in keys):
            if key in given:
                raise SettingError(f"cluster.step_secrets: {step} is given {key} already; name it once")
            given.append(key)


def cores(amount: str) -> int:
    """Whole cores of a Kubernetes amount, at least one: `1500m` are two."""
    count = float(amount.removesuffix("m")) / (1000 if amount.endswith("m") else 1)
    return max(1, math.ceil(count))


def _equip_training(task: Any, gpu: bool, cluster: Cluster) -> None:
    _place(task, cluster.train_node_selector, cluster.train_tolerations)
    if gpu:
        task.set_accelerator_type(cluster.gpu_type).set_accelerator_limit(max(1, cluster.gpus))
        _place(task, cluster.gpu_node_selector, cluster.gpu_tolerations)
    if cluster.shared_memory:
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=cluster.shared_memory)
    task.set_env_variable("RETRAINER_CHECKPOINT_SECONDS", str(cluster.checkpoint_seconds))
    if cluster.checkpoint_volume:
        kubernetes.mount_pvc(task, cluster.checkpoint_volume, CHECKPOINTS)
        task.set_env_variable(PLACE, CHECKPOINTS)


def _place(task: Any, selector: dict[str, str], tolerations: tuple[Toleration, ...]) -> None:
    for key, value in selector.items():
        kubernetes.add_node_selector(task, key, value)
    for taint in tolerations:
        kubernetes.add_toleration(
            task, taint.key or None, taint.operator, taint.value or None, taint.effect or None
        )


def _outlast_failures(task: Any, cluster: Cluster) -> None:
    if cluster.timeout_seconds:
        kubernetes.set_timeout(task, cluster.timeout_seconds)
    # Also for none: a step that says nothing would be tried as often as the cluster's administrator wants.
    window = f"{retry_window_seconds(cluster)}s"
    task.set_retry(cluster.retries, f"{cluster.backoff_seconds}s", _BACKOFF_FACTOR, window)


def retry_window_seconds(cluster: Cluster) -> int:
    """Until when after a step's first beginning Argo may try it: all tries at their longest, and all waits.

    Kubeflow's `backoff_max_duration` is Argo's `maxDuration`, behind which nothing is tried again and a pod
    that is under way is killed (KFP 2.17, backend/src/v2/compiler/argocompiler/container.go:640; Argo 4.0,
    workflow/controller/operator.go:1072 and 1142). What ends a step is its timeout, not this.
    """
    waits = cluster.backoff_seconds * (int(_BACKOFF_FACTOR) ** cluster.retries - 1)
    return (cluster.retries + 1) * cluster.timeout_seconds + waits + _PENDING_SECONDS


def _lend_secrets(task: Any, step: str, cluster: Cluster) -> None:
    own = [(secret, keys, False) for secret, keys in cluster.step_secrets.get(step, {}).items()]
    for secret, keys, optional in [*lent_to(step, cluster), *own]:
        kubernetes.use_secret_as_env(task, secret, dict(zip(keys, keys, strict=True)), optional)


def lent_to(step: str, cluster: Cluster) -> list[tuple[str, tuple[str, ...], bool]]:
    """(secret, its keys, whether the pod starts without them) of all that the step needs, and of no more."""
    words = LENT.get(step, ())
    # The volume goes before S3, and Kubernetes refuses a variable that is given twice.
    volume = step in _WITH_GPUS and cluster.checkpoint_volume
    lent = (
        (cluster.mlflow_secret, MLFLOW_KEYS, False, "mlflow" in words),
        (cluster.mlflow_secret, MLFLOW_CREDENTIALS, True, "mlflow" in words),
        (cluster.mlflow_secret, MLFLOW_S3, True, "mlflow" in words or "s3" in words),
        (cluster.storage_secret, S3_KEYS, True, "s3" in words or cluster.launcher_keys),
        (cluster.storage_secret, (DVC_REMOTE,), True, "dvc" in words),
        (cluster.storage_secret, (PLACE,), True, "checkpoints" in words and not volume),
        (cluster.kubeflow_registry_secret, KUBEFLOW_KEYS, True, "mirror" in words),
    )
    return [(secret, keys, optional) for secret, keys, optional, needed in lent if secret and needed]
