"""Which step of this Kubeflow run failed, and how, as Argo's own record of the run says.

Kubeflow tells its exit task only that something failed (its driver leaves the error empty), so the record is
read from the Kubernetes API, as this pod's service account may: Kubeflow's own accounts may `get workflows`.

RETRAINER_WORKFLOW   the record's name, from the pod's label workflows.argoproj.io/workflow
"""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import os
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from retrainer.errors import ServiceError

WORKFLOW = "RETRAINER_WORKFLOW"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_SECONDS = 10.0
_FAILED = ("Failed", "Error")
_DRIVER = "-driver"
_EXIT_CODE = re.compile(r"exit code (\d{1,3})\b")
# Argo passes on what Kubernetes wrote; of it these words are known, and the rest may quote anything.
_CAUSES = {
    "OOMKilled": "out of memory",
    "DeadlineExceeded": "out of time",
    "longer than the specified deadline": "out of time",
    "Evicted": "evicted",
    "low on resource": "evicted",
    "ImagePullBackOff": "image not pulled",
    "ErrImagePull": "image not pulled",
    "pod deleted": "pod lost",
    # How Kubeflow terminates a run: it sets the run's deadline to now.
    "Step exceeded its deadline": "terminated",
}

Node = Mapping[str, Any]


@dataclass(frozen=True)
class Failure:
    """`exit_status` is that of the pod's container, so of Kubeflow's launcher; `cause` may be empty."""

    step: str
    exit_status: int | None
    cause: str


def failed_step(steps: Iterable[str], account: Path = ACCOUNT) -> Failure | None:
    """The last of these steps that failed; None when none did. Raises UserError when nobody can say."""
    record = _record(account)
    nodes = _nodes(record)
    failed = {str(node.get("displayName", "")) for node in nodes if node.get("phase") in _FAILED}
    found = [step for step in steps if {step, step + _DRIVER} & failed]
    if not found:
        return None
    failure = _described(found[-1], nodes)
    return replace(failure, cause="terminated") if _terminated(record) else failure


def _terminated(record: Mapping[str, Any]) -> bool:
    """Whether a person ended the run: Kubeflow then sets its deadline to zero, and nothing else does.

    KFP 2.17, backend/src/common/util/execution_spec.go:299. The pod's own message only tells a signal.
    """
    return bool(record.get("spec", {}).get("activeDeadlineSeconds") == 0)


def _described(step: str, nodes: list[Node]) -> Failure:
    """From the message of the step's pod that failed last."""
    # Kubeflow's manifests let Argo retry every node, the DAG of a step too: `train(0).executor(0)`.
    below = re.compile(rf"\.{re.escape(step)}({_DRIVER})?(\(\d+\))?(\.|$)")
    pods = [n for n in nodes if n.get("phase") in _FAILED and below.search(str(n.get("name", "")))]
    pods = [node for node in pods if node.get("type") == "Pod" and node.get("message")]
    pods.sort(key=lambda node: str(node.get("finishedAt", "")))
    message = str(pods[-1]["message"]) if pods else ""
    code = _EXIT_CODE.search(message)
    cause = next((words for sign, words in _CAUSES.items() if sign in message), "")
    return Failure(step, int(code[1]) if code else None, cause)


def _nodes(record: Mapping[str, Any]) -> list[Node]:
    status = record.get("status", {})
    nodes = status.get("nodes")
    if not nodes and status.get("compressedNodes"):
        nodes = json.loads(gzip.decompress(base64.b64decode(status["compressedNodes"])))
    if not nodes:
        raise ServiceError("Argo keeps this run's record in a database of its own, which no pod reads")
    return list(nodes.values())


def _record(account: Path) -> dict[str, Any]:
    name, host = os.environ.get(WORKFLOW, ""), os.environ.get("KUBERNETES_SERVICE_HOST", "")
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not (name and host and (account / "token").is_file()):
        raise ServiceError("this pod has no access to the Kubernetes API")
    namespace = (account / "namespace").read_text(encoding="utf-8").strip()
    host = f"[{host}]" if ":" in host else host
    address = f"https://{host}:{port}/apis/argoproj.io/v1alpha1/namespaces/{namespace}/workflows/{name}"
    return _get(address, account)


def _get(address: str, account: Path) -> dict[str, Any]:
    token = (account / "token").read_text(encoding="utf-8").strip()
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
    try:
        context = ssl.create_default_context(cafile=account / "ca.crt")
        # The API is inside the cluster: no proxy leads there.
        handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)]
        with urllib.request.build_opener(*handlers).open(request, timeout=_SECONDS) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        with error:
            cure = "; let the pods' service account get workflows" if error.code == 403 else ""
            raise ServiceError(f"the Kubernetes API answers HTTP {error.code}{cure}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ServiceError(f"the Kubernetes API does not answer ({type(error).__name__})") from None
