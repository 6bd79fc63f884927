"""What each pod asks of Kubernetes: requests, GPUs, nodes, retries, and the secrets that its step is lent."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from kfp import kubernetes

from components.steps import FACTS, STEPS
from pipelines._pods import cores
from pipelines.spec import tasks_in
from retrainer.errors import SettingError
from tests.compiled_pipelines import (
    compiled,
    container_of,
    environment_of,
    project_of,
)
from tests.imports import reach


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return project_of(tmp_path)


def test_every_pod_has_requests_and_limits_and_none_has_a_gpu(project: Path) -> None:
    spec, pods = compiled(project, "cluster.resources={train: {cpu: 1500m, memory_limit: 16Gi}}")
    for step in STEPS:
        resources = container_of(spec, step)["resources"]
        for part in (
            "resourceCpuRequest",
            "resourceMemoryRequest",
            "resourceCpuLimit",
            "resourceMemoryLimit",
        ):
            assert resources[part], (step, part)
        assert "accelerator" not in resources
        assert pods[step]["securityContext"] == {"runAsNonRoot": True}
        assert pods[step]["activeDeadlineSeconds"] == "86400"
    train = container_of(spec, "train")["resources"]
    found = {
        part: train[f"resource{part}"] for part in ("CpuRequest", "CpuLimit", "MemoryRequest", "MemoryLimit")
    }
    assert found == {
        "CpuRequest": "1500m",
        "CpuLimit": "1500m",
        "MemoryRequest": "8Gi",
        "MemoryLimit": "16Gi",
    }


def test_a_failed_or_preempted_step_is_tried_again_with_longer_waits(project: Path) -> None:
    spec, _ = compiled(project, "cluster.retries=3", "cluster.backoff_seconds=10")
    for task in tasks_in(spec).values():
        policy = task["retryPolicy"]
        assert (policy["maxRetryCount"], policy["backoffDuration"], policy["backoffFactor"]) == (
            3,
            "10s",
            2.0,
        )
        # Both at their longest, all waits, and something for pods that wait for a node.
        assert int(policy["backoffMaxDuration"].removesuffix("s")) > 4 * 86_400 + 10 + 20 + 40
    spec, _ = compiled(project, "cluster.retries=0")
    # Said outright: else the number of tries would be the cluster's own default.
    tasks = tasks_in(spec).values()
    assert all(task["retryPolicy"].get("maxRetryCount", 0) == 0 for task in tasks)
    assert all("retryPolicy" in task for task in tasks)


@pytest.mark.parametrize("wish", ["compute.device=cuda", "cluster.gpus=2"])
def test_train_alone_gets_gpus_and_goes_where_they_are(project: Path, wish: str) -> None:
    spec, pods = compiled(
        project, wish, "cluster.gpu_node_selector={pool: a100}", "cluster.node_selector={zone: b, pool: cpu}"
    )
    found = {step: container_of(spec, step)["resources"].get("accelerator") for step in STEPS}
    train = found.pop("train")
    count = "2" if "gpus" in wish else "1"
    assert (train["resourceType"], train["resourceCount"]) == ("nvidia.com/gpu", count)
    assert set(found.values()) == {None}
    assert pods["train"]["nodeSelector"]["labels"] == {"pool": "a100", "zone": "b"}
    assert pods["evaluate"]["nodeSelector"]["labels"] == {"pool": "cpu", "zone": "b"}
    assert pods["train"]["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert all("tolerations" not in pods[step] for step in STEPS if step != "train")


def test_train_alone_goes_to_spot_nodes_without_a_gpu(project: Path) -> None:
    spot = "{key: spot, operator: Equal, value: 'true', effect: NoSchedule}"
    _, pods = compiled(
        project,
        "cluster.node_selector={pool: cpu}",
        "cluster.train_node_selector={pool: spot}",
        f"cluster.train_tolerations=[{spot}]",
    )
    assert pods["train"]["nodeSelector"]["labels"] == {"pool": "spot"}
    assert pods["evaluate"]["nodeSelector"]["labels"] == {"pool": "cpu"}
    assert pods["train"]["tolerations"] == [
        {"key": "spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
    ]
    assert all("tolerations" not in pods[step] for step in STEPS if step != "train")


def test_pods_carry_what_the_team_wants_on_them(project: Path) -> None:
    _, pods = compiled(
        project,
        "cluster.labels={cost-centre: vision}",
        "cluster.image_pull_secrets=[registry-key]",
        "cluster.tolerations=[{key: dedicated, operator: Equal, value: ml}]",
        "cluster.checkpoint_volume=scratch",
    )
    for step in STEPS:
        assert pods[step]["podMetadata"]["labels"] == {"cost-centre": "vision"}
        assert [entry["secretName"] for entry in pods[step]["imagePullSecret"]] == ["registry-key"]
        assert pods[step]["tolerations"] == [{"key": "dedicated", "operator": "Equal", "value": "ml"}]
    mounts = {step: pods[step].get("pvcMount", []) for step in STEPS}
    assert [(mount["constant"], mount["mountPath"]) for mount in mounts.pop("train")] == [
        ("scratch", "/checkpoints")
    ]
    assert not any(mounts.values())
    assert {"volumeName": "shm", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "1Gi"} in (
        pods["train"]["emptyDirMounts"]
    )


def test_a_pod_whose_root_is_read_only_can_write_to_tmp(project: Path) -> None:
    for wish, limit in ([], {}), (["cluster.scratch=5Gi"], {"sizeLimit": "5Gi"}):
        _, pods = compiled(project, *wish)
        for step in STEPS:
            assert {"volumeName": "tmp", "mountPath": "/tmp"} | limit in pods[step]["emptyDirMounts"]


def test_checkpoints_come_as_often_as_the_cluster_wants(project: Path) -> None:
    spec, _ = compiled(project, "cluster.checkpoint_seconds=20")
    assert environment_of(spec, "train")["RETRAINER_CHECKPOINT_SECONDS"] == "20"


_MLFLOW = {"MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
_MLFLOW |= {"MLFLOW_TRACKING_TOKEN", "MLFLOW_S3_ENDPOINT_URL"}
_AWS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"}
_AWS |= {"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"}
# Written out: a key more or less is a decision.
LENT = {
    "ingest": _AWS | {"MLFLOW_S3_ENDPOINT_URL", "RETRAINER_DVC_REMOTE"},
    "preprocess": set(),
    "decide": _MLFLOW | _AWS,
    "train": _MLFLOW | _AWS | {"RETRAINER_CHECKPOINTS"},
    "evaluate": _MLFLOW | _AWS,
    "register": _MLFLOW
    | _AWS
    | {f"RETRAINER_KUBEFLOW_REGISTRY{key}" for key in ("", "_TOKEN", "_TOKEN_FILE")},
}


def lent(pod: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """Variable → its secret, and whether the pod starts without it."""
    return {
        key["envVar"]: (entry["secretName"], bool(entry.get("optional")))
        for entry in pod.get("secretAsEnv", [])
        for key in entry["keyToEnv"]
    }


def test_each_step_is_lent_what_it_needs_and_nothing_else(project: Path) -> None:
    secrets = ["cluster.mlflow_secret=team-mlflow", "cluster.storage_secret=team-s3"]
    secrets.append("cluster.kubeflow_registry_secret=team-kubeflow")
    pods = compiled(project, *secrets)[1]
    assert {step: set(lent(pod)) for step, pod in pods.items()} == LENT
    for pod in pods.values():
        for variable, (secret, optional) in lent(pod).items():
            of = next(word for word in ("MLFLOW", "KUBEFLOW", "") if word in variable)
            assert secret == f"team-{of.lower() or 's3'}"
            assert optional == (variable != "MLFLOW_TRACKING_URI")
    pods = compiled(project, *secrets, "cluster.launcher_keys=true", "cluster.checkpoint_volume=kept")[1]
    assert set(lent(pods["preprocess"])) == _AWS
    assert set(lent(pods["train"])) == LENT["train"] - {"RETRAINER_CHECKPOINTS"}, "the volume goes before S3"


def test_what_a_step_is_lent_is_what_its_code_can_use() -> None:
    """By the module that uses it, wherever the step's imports reach."""
    users = {"mlflow": "connection", "s3": "s3", "dvc": "dvc_remote", "checkpoints": "checkpoint_store"}
    users["mirror"] = "kubeflow_registry"
    for step, facts in FACTS.items():
        reached = reach(f"components.{step}")
        used = {word for word, module in users.items() if f"retrainer.services.{module}" in reached}
        assert set(facts.secrets) == used, step


def test_kubeflows_client_can_ask_for_no_more_of_a_pods_security() -> None:
    """Capabilities, escalation and seccomp are the backend's own to set: docs/operating.md."""
    asked = set(inspect.signature(kubernetes.set_security_context).parameters) - {"task"}
    assert asked == {"run_as_user", "run_as_group", "run_as_non_root"}, "a later kfp can ask for more: do"


def test_a_step_is_lent_further_secrets(project: Path) -> None:
    lent = "cluster.step_secrets={ingest: {my-database: [MY_DATABASE]}}"
    executors = compiled(project, lent)[1]
    entry = {"secretName": "my-database", "keyToEnv": [{"secretKey": "MY_DATABASE", "envVar": "MY_DATABASE"}]}
    with_it = [step for step in STEPS if entry["secretName"] in json.dumps(executors[step])]
    assert with_it == ["ingest"] and entry.items() <= executors["ingest"]["secretAsEnv"][-1].items()


@pytest.mark.parametrize(
    ("lent", "said"),
    [
        ("{ingst: {a: [B]}}", "step_secrets: there is no step 'ingst'; did you mean 'ingest'"),
        ("{ingest: {a: [B], c: [B]}}", "step_secrets: ingest is given B already"),
        ("{train: {a: [RETRAINER_IMAGE]}}", "step_secrets: train is given RETRAINER_IMAGE already"),
        ("{train: {'': [B]}}", "step_secrets"),
        ("{train: {a: [a-b]}}", "step_secrets"),
    ],
)
def test_a_further_secret_that_cannot_be_lent_is_refused(project: Path, lent: str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        compiled(project, f"cluster.step_secrets={lent}")


@pytest.mark.parametrize(("amount", "count"), [("2", 2), ("500m", 1), ("1500m", 2), ("0.5", 1), ("2.5", 3)])
def test_cores_of_an_amount(amount: str, count: int) -> None:
    assert cores(amount) == count


# --- what a step checks and hands over -----------------------------------------------------------------
