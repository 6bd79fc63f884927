"""A recipe's champion as a KServe InferenceService: one YAML file, for `kubectl apply`.

A file with a canary has only fields that Knative lets through (pkg/apis/serving/fieldmask.go, 2026-08-21);
`_STANDARD` and `_LINGER` are for a Deployment alone. What hardens the container stands at the container,
since Knative refuses a pod's own securityContext.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines._pods import (
    MLFLOW_CREDENTIALS,
    MLFLOW_KEYS,
    MLFLOW_S3,
    S3_KEYS,
    SERVE,
    check_steps,
    cores,
    resources_of,
)
from pipelines.compile import BUILD
from pipelines.kubeflow import Images
from retrainer.errors import SettingError
from retrainer.resolve import settle
from retrainer.services.address import is_server, registry_uri
from retrainer.serving.command import Request, find_version
from retrainer.settings import Cluster, Registry

PORT = 8080
# KServe looks for the model's container by this name (v0.20.0, pkg/constants/constants.go:493).
_CONTAINER = "kserve-container"
_MODE = "serving.kserve.io/deploymentMode"
# Knative counts the pull of the image into the time that a revision has to become ready: ten minutes.
_KNATIVE = {_MODE: "Knative", "serving.knative.dev/progress-deadline": "1200s"}
# MLflow's server gives up a request after 60 s, and ends when its last one is answered. Before it is told to,
# it waits until Kubernetes has ceased to send it new ones.
_REQUEST_SECONDS, _LINGER_SECONDS, _GRACE_SECONDS = 60, 10, 75
# What Knative refuses, and settles by itself. KServe's own settings may let the only pod end before its
# successor is ready (deploymentRolloutStrategy); what stands here wins (v0.20.0, pkg/controller/v1beta1/
# inferenceservice/reconcilers/deployment/deployment_reconciler.go:162).
_STANDARD = {
    "terminationGracePeriodSeconds": _GRACE_SECONDS,
    "deploymentStrategy": {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    },
}
_LINGER = {"lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_LINGER_SECONDS)]}}}}
# NAME-predictor-NAMESPACE is one label of a host name, of 63 characters at most; kubeflow-user-example-com,
# the namespace of Kubeflow's first user, has 25.
_MOST_NAME, _DIGEST = 27, 6


@dataclass(frozen=True)
class Choice:
    """`version`: a number, or an alias of the registry that MLFLOW_TRACKING_URI names. `canary`: the share of
    requests for it, in percent, by Knative; empty: all, by a Deployment, in KServe's standard mode."""

    recipe: str | None
    overrides: list[str]
    version: str = ""
    canary: str = ""


def write_inference_service(choice: Choice, images: Images, root: Path = Path()) -> Path:
    """Writes `build/<recipe>-service.yaml` and returns its path. Raises UserError for what cannot run."""
    stem, sections = settle(choice.recipe, choice.overrides, root)
    cluster, registry = sections["cluster"], sections["registry"]
    assert isinstance(cluster, Cluster) and isinstance(registry, Registry)
    check_steps(cluster)
    if not cluster.mlflow_secret:
        raise SettingError(
            "cluster.mlflow_secret is empty: name the Kubernetes secret that holds MLFLOW_TRACKING_URI, which"
            " the server asks for the model, or give it as SECRET="
        )
    name = cluster.model_prefix + registry.name
    version = _number(name, choice)
    service = inference_service(name, version, images.full, cluster, _percent(choice.canary))
    path = root / BUILD / f"{stem}-service.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(service, sort_keys=False), encoding="utf-8")
    return path


def _number(name: str, choice: Choice) -> str:
    """The version's number: only so does another champion change the file, and with it the service."""
    if choice.version.isascii() and choice.version.isdigit():
        return str(int(choice.version))
    if not is_server(registry_uri()):
        raise SettingError(
            "MLFLOW_TRACKING_URI names no server: which version is champion is known to the registry that the"
            " pod asks; set it to that address, or name the version by VERSION=number"
        )
    request = Request(choice.recipe or "", choice.version or Request().version)
    return find_version(name, request).version


def _percent(text: str) -> int | None:
    if not text:
        return None
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else -1
    if not 0 <= number <= 100:
        raise SettingError(f"CANARY={text}: needed is how many percent of the requests, 0 to 100")
    return number


def inference_service(
    name: str, version: str, image: str, cluster: Cluster, canary: int | None
) -> dict[str, Any]:
    """The resource, as `kubectl apply` takes it."""
    about = {"retrainer/model": f"models:/{name}/{version}"}
    mode = {_MODE: "Standard"} if canary is None else _KNATIVE
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": service_name(name),
            **({"labels": dict(cluster.labels)} if cluster.labels else {}),
            "annotations": mode | about,
        },
        "spec": {"predictor": _predictor(name, version, image, cluster, canary)},
    }


def service_name(name: str) -> str:
    """The registered model's name as Kubernetes allows it. One that is cut has a digest of the whole, or two
    models would share a service."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    plain = plain if plain[:1].isalpha() else f"model-{plain}"
    if len(plain) <= _MOST_NAME:
        return plain
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST]
    return f"{plain[: _MOST_NAME - _DIGEST - 1].rstrip('-')}-{digest}"


def _predictor(name: str, version: str, image: str, cluster: Cluster, canary: int | None) -> dict[str, Any]:
    scratch = {"sizeLimit": cluster.scratch} if cluster.scratch else {}
    ending: dict[str, Any] = _STANDARD if canary is None else {"canaryTrafficPercent": canary}
    lingering: dict[str, Any] = _LINGER if canary is None else {}
    placed = {
        "imagePullSecrets": [{"name": secret} for secret in cluster.image_pull_secrets],
        "nodeSelector": dict(cluster.node_selector),
        "tolerations": [{k: v for k, v in one.plain().items() if v} for one in cluster.tolerations],
    }
    return {
        "minReplicas": 1,
        "timeout": _REQUEST_SECONDS,
        **ending,
        # The server asks the registry, and nothing of Kubernetes.
        "automountServiceAccountToken": False,
        **{key: value for key, value in placed.items() if value},
        "containers": [_container(name, version, image, cluster) | lingering],
        "volumes": [{"name": "tmp", "emptyDir": scratch}],
    }


def _container(name: str, version: str, image: str, cluster: Cluster) -> dict[str, Any]:
    asked = resources_of(SERVE, cluster)
    return {
        "name": _CONTAINER,
        "image": image,
        "command": ["python", "-m", "retrainer", "serve"],
        "args": [
            *("--model", name, "--version", version),
            *("--host", "0.0.0.0", "--port", str(PORT), "--page-port", "none"),
        ],
        "ports": [{"containerPort": PORT, "protocol": "TCP"}],
        "env": [*_secrets(cluster), {"name": "OMP_NUM_THREADS", "value": str(cores(asked.cpu_limit))}],
        "resources": {
            "requests": {"cpu": asked.cpu, "memory": asked.memory},
            "limits": {"cpu": asked.cpu_limit, "memory": asked.memory_limit},
        },
        # Nobody listens before the model is loaded: up to ten minutes, for weights that come from afar.
        "startupProbe": _probe(5, 120),
        "readinessProbe": _probe(5, 3),
        "livenessProbe": _probe(20, 6),
        "securityContext": {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }


def _probe(period_seconds: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": "/ping", "port": PORT},
        "periodSeconds": period_seconds,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _secrets(cluster: Cluster) -> list[dict[str, Any]]:
    """The variables that the server needs to fetch the model, and no other."""
    lent = (
        (cluster.mlflow_secret, MLFLOW_KEYS, False),
        (cluster.mlflow_secret, (*MLFLOW_CREDENTIALS, *MLFLOW_S3), True),
        (cluster.storage_secret, S3_KEYS, True),
        *((secret, keys, False) for secret, keys in cluster.step_secrets.get(SERVE, {}).items()),
    )
    return [
        {
            "name": key,
            "valueFrom": {
                "secretKeyRef": {"name": secret, "key": key, **({"optional": True} if may else {})}
            },
        }
        for secret, keys, may in lent
        if secret
        for key in keys
    ]
