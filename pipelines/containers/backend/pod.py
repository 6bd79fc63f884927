"""A step's pod as a container of this machine: what is mounted, what its environment holds, who it runs as.

Sources: kubeflow/pipelines 2.17.0, backend/src/v2, and the part of the compiled YAML for Kubernetes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.containers.backend import in_pod
from pipelines.containers.backend.driver import Json
from pipelines.containers.backend.kubelet import expand
from pipelines.containers.docker_api import HARDENED, StepFailed, run, told
from retrainer.errors import ServiceError

if TYPE_CHECKING:
    from docker import DockerClient

# Mounted by Kubeflow into every step's container, and no /tmp (compiler/argocompiler/container.go:468-565).
# Artifacts of the rehearsal come to lie under /minio.
_EMPTY_DIRS = ("/gcs", "/s3", "/.local", "/.cache", "/.config")
_ARTIFACTS = "/minio"
_LAUNCHER = "/kfp-launcher"
_STORE = "/kfp-store"
_MODE = "rw,exec,mode=0777"
# podman makes these writable in a container whose root file system is not; a kubelet does not.
_NOT_WRITABLE = ("/tmp", "/var/tmp", "/run")
# What a container that is given none of its own has.
_SHARED_MEMORY = 64 << 20
# What the Kubernetes part may hold. Of the last six a container alone shows nothing.
_IMITATED = {"emptyDirMounts", "secretAsEnv", "fieldPathAsEnv", "securityContext", "pvcMount"}
_IMITATED |= {"podMetadata", "nodeSelector", "tolerations", "imagePullSecret", "activeDeadlineSeconds"}
_IMITATED |= {"imagePullPolicy"}


@dataclass
class Pod:
    """One step's pod. `folder` lies in the rehearsal's directory and is removed with it."""

    folder: Path
    store: Path
    volumes: Path
    container: Json
    kubernetes: Json
    environment: dict[str, str]
    patience_seconds: float
    options: dict[str, Any] = field(default_factory=dict)

    def run(self, client: DockerClient, plan: Json, say: Callable[[str], None]) -> Json:
        """Runs the step under `in_pod.py`; returns what that reports. Raises StepFailed without a report."""
        launcher = self._scratch("launcher")
        shutil.copyfile(in_pod.__file__, launcher / "launch.py")
        (launcher / "plan.json").write_text(json.dumps({**plan, "patience_seconds": self.patience_seconds}))
        command = ["python3", "-I", "-S", f"{_LAUNCHER}/launch.py"]
        options = {**HARDENED, **self._mounts(launcher), **self.options, "environment": self.environment}
        if size := _bytes(self.container.get("resources", {}).get("resourceMemoryLimit", "")):
            options |= {"mem_limit": size} if client.info().get("MemoryLimit") else {}  # not every engine can
        code = run(client, self.container["image"], command, say, **options)
        report = launcher / "report.json"
        if not report.is_file():
            why = (
                told(code) if code > 1 else "its image cannot run the rehearsal's launcher: it needs python3"
            )
            raise StepFailed(why, code, published=False)
        said: Json = json.loads(report.read_text(encoding="utf-8"))
        return said

    def _mounts(self, launcher: Path) -> dict[str, Any]:
        bound = {launcher: _LAUNCHER, self._scratch("minio"): _ARTIFACTS}
        memory = dict.fromkeys(_EMPTY_DIRS, _MODE)
        shared = _SHARED_MEMORY
        for mount in self.kubernetes.get("emptyDirMounts", []):
            path, size = mount["mountPath"], _bytes(mount.get("sizeLimit", ""))
            if path == "/dev/shm":
                shared = size or shared
            elif mount.get("medium") == "Memory":
                memory[path] = f"{_MODE},size={size}" if size else _MODE
            else:
                bound[self._scratch(f"empty-dir-{mount['volumeName']}")] = path
        for mount in self.kubernetes.get("pvcMount", []):
            name = mount.get("constant") or mount["pvcNameParameter"]["runtimeValue"]["constant"]
            bound[opened(self.volumes / name)] = mount["mountPath"]
        volumes = {str(here): {"bind": there, "mode": "rw"} for here, there in bound.items()}
        volumes[str(self.store)] = {"bind": _STORE, "mode": "ro"}
        for number, path in enumerate(_NOT_WRITABLE):
            if path not in (*bound.values(), *memory):
                volumes[str(self._scratch(f"empty-{number}"))] = {"bind": path, "mode": "ro"}
        user = _user(self.kubernetes.get("securityContext", {}))
        return {"volumes": volumes, "tmpfs": memory, "shm_size": shared, **user}

    def _scratch(self, name: str) -> Path:
        return opened(self.folder / name)

    def take(self, port: str, into: Path) -> None:
        """Moves what was uploaded for a port into the store."""
        made = self.folder / "launcher" / "upload" / port
        if made.exists():
            opened(into.parent)
            shutil.move(made, into)

    def remove(self, client: DockerClient) -> None:
        """Frees the disk. What the image's user wrote and this one may not remove, that one opens to all."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.exists() and os.geteuid() != 0:
            command = ["chmod", "-R", "a+rwX", str(self.folder)]
            same = {str(self.folder): {"bind": str(self.folder), "mode": "rw"}}
            labels = self.options.get("labels", {})
            run(client, self.container["image"], command, lambda _: None, volumes=same, labels=labels)
            shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()


def stored_at(uri: str, root: str) -> str:
    """Where an artifact of the store lies in the pod; `root` is the store's address."""
    return f"{_STORE}/{uri.removeprefix(root).lstrip('/')}"


def uploaded_to(port: str) -> str:
    return f"{_LAUNCHER}/upload/{port}"


def opened(folder: Path) -> Path:
    """The directory, made if need be with those above it, and writable for any image's user."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir()
        each.chmod(0o777)
    return folder


def _user(context: Json) -> dict[str, str]:
    """Who the container runs as where the pod says so: without a group of its own, in group 0."""
    if "runAsUser" not in context:
        return {}
    return {"user": f"{context['runAsUser']}:{context.get('runAsGroup', 0)}"}


def _bytes(amount: str) -> int:
    from kubernetes.utils import parse_quantity

    return int(parse_quantity(amount)) if amount else 0


def check(kubernetes: dict[str, Json]) -> None:
    """Raises UserError for what the Kubernetes part asks for and a rehearsal does not imitate."""
    for name, config in kubernetes.items():
        for key in config:
            if key not in _IMITATED:
                raise ServiceError(f"the pipeline's {name} has {key}, which a rehearsal does not imitate")


def environment(
    container: Json,
    kubernetes: Json,
    offered: dict[str, str],
    everywhere: dict[str, str],
    fields: dict[str, str],
) -> dict[str, str]:
    """A container's environment.

    `offered` is what the secrets hold, `everywhere` what every pod is given. A secret's variable comes
    after the container's own of that name (driver/k8s.go:347-395), and the last one counts. Raises StepFailed
    for a secret's key that is not there: no pod starts without it.
    """
    found = dict(everywhere)
    own: dict[str, str] = {}
    for each in container.get("env", []):
        own[each["name"]] = expand(each.get("value", ""), own)
    found |= own
    for secret in kubernetes.get("secretAsEnv", []):
        for key in secret["keyToEnv"]:
            if key["secretKey"] in offered:
                found[key["envVar"]] = offered[key["secretKey"]]
            elif not secret.get("optional"):
                raise StepFailed(f"its secret has no {key['secretKey']}: the pod would not start")
    for each in kubernetes.get("fieldPathAsEnv", []):
        if each["fieldPath"] not in fields:
            raise StepFailed(f"{each['name']} is {each['fieldPath']}, which a rehearsal does not know")
        found[each["name"]] = fields[each["fieldPath"]]
    return found


def of_secrets(kubernetes: dict[str, Json]) -> set[str]:
    """The keys of secrets that any step of the pipeline names."""
    return {
        key["secretKey"]
        for config in kubernetes.values()
        for secret in config.get("secretAsEnv", [])
        for key in secret["keyToEnv"]
    }
