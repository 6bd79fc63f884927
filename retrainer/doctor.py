"""Looks at this machine and says, one line each, what is well, doubtful or sure to fail, with a cure."""

from __future__ import annotations

import configparser
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from retrainer import __version__
from retrainer.errors import UserError
from retrainer.projects.project import RECORD, read_origin
from retrainer.registry.mirror import FOR_A_SERVER, second_registry
from retrainer.resolve import settle
from retrainer.services import database, webhook
from retrainer.services.address import WEBHOOK, is_server, sqlite_path, tracking_uri, without_credentials
from retrainer.services.rest import check_reachable
from retrainer.settings import Registry
from retrainer.training.compute import cuda_devices, physical_cores

State = Literal["ok", "warn", "fail"]
_GIB = 2**30
_PINNED = re.compile(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)(?: *; *(.+?))? *\\?$")


@dataclass(frozen=True)
class Finding:
    state: State
    about: str
    text: str
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.state:<5} {self.about:<10} {self.text}" + (f" → {self.cure}" if self.cure else "")


def examine(recipe: str = "", root: Path = Path()) -> int:
    """Prints every finding; returns 1 when one of them will make a run fail, else 0."""
    worst = 0
    for about, check in _checks(recipe, root).items():
        try:
            finding = check()
        except Exception as error:  # what cannot even be examined will not work either
            finding = Finding("fail", about, f"{type(error).__name__}: {error}", "rm -r .venv && make setup")
        print(finding, flush=True)
        worst = max(worst, int(finding.state == "fail"))
    return worst


def _checks(recipe: str, root: Path) -> dict[str, Callable[[], Finding]]:
    return {
        "Python": python,
        "library": lambda: library(root),
        "packages": lambda: packages(root / "requirements.lock"),
        "disk": lambda: disk(root),
        "memory": memory,
        "git": git,
        "GPU": gpu,
        "settings": lambda: settings(recipe, root),
        "MLflow": mlflow,
        "Kubeflow": lambda: kubeflow(recipe, root),
        "DVC": lambda: dvc(root),
        "webhook": notifications,
        "containers": containers,
    }


def python() -> Finding:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding("fail", "Python", text, "use 3.11, 3.12 or 3.13: make setup PYTHON=python3.12")
    if platform.system() == "Darwin" and platform.machine() != "arm64":
        return Finding(
            "fail", "Python", text, "PyTorch has no build for Intel Macs: use Linux or an arm64 Mac"
        )
    return Finding("ok", "Python", text)


def library(root: Path) -> Finding:
    """Whether the Retrainer that runs is the one that the project here is of."""
    if not (root / RECORD).is_file():
        return Finding("ok", "library", f"Retrainer {__version__}")
    try:
        wanted = read_origin(root).version
    except UserError as error:
        return Finding("fail", "library", str(error))
    if wanted != __version__:
        text = f"Retrainer {__version__} runs, and the project is of {wanted}"
        return Finding("fail", "library", text, "make setup, or retrainer upgrade by the newer one")
    return Finding("ok", "library", f"Retrainer {__version__}, as in {RECORD}")


def packages(lock: Path) -> Finding:
    """Compares what is installed with the lock's pins that hold for this Python."""
    if not lock.is_file():
        return Finding("warn", "packages", f"{lock} is not here", "run in the project's root")
    pins = [found.groups() for line in lock.read_text().splitlines() if (found := _PINNED.match(line))]
    wanted = {name: pinned for name, pinned, marker in pins if _holds(marker)}
    other = [name for name, pinned in wanted.items() if _installed(name).partition("+")[0] != pinned]
    if other:
        text = f"{len(other)} of {len(wanted)} differ from requirements.lock: {', '.join(other[:5])}"
        return Finding("fail", "packages", text, "rm -r .venv && make setup")
    return Finding("ok", "packages", f"{len(wanted)} as in requirements.lock")


def _holds(marker: str | None) -> bool:
    from packaging.markers import Marker

    return marker is None or Marker(marker).evaluate()


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free / _GIB
    state: State = "fail" if free < 1 else "warn" if free < 10 else "ok"
    cure = (
        "free some: the environment takes 6 GB, each model version its weights twice" if state != "ok" else ""
    )
    return Finding(state, "disk", f"{free:.0f} GB free", cure)


def memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available / _GIB
    text = f"{free:.0f} GB free, {physical_cores()} cores"
    if free < 3:
        return Finding("warn", "memory", text, "end other programs, or lower training.batch_size")
    return Finding("ok", "memory", text)


def git() -> Finding:
    if shutil.which("git") is None:
        return Finding("warn", "git", "not found", "install git: versions are tagged with the commit")
    if not Path(".git").exists():
        return Finding(
            "warn", "git", "not a clone: versions carry no commit", "git init && git add . && git commit"
        )
    return Finding("ok", "git", "found")


def gpu() -> Finding:
    """What the driver offers, and whether the installed PyTorch can use it."""
    import torch

    if cuda_devices() == 0:
        cure = "install NVIDIA's driver (nvidia-smi must answer)" if Path("/dev/nvidia0").exists() else ""
        return Finding(
            "warn" if cure else "ok", "GPU", "none: runs go to the CPU (compute.device: auto)", cure
        )
    text = f"{_gpu_name()}, PyTorch {torch.__version__}"
    if not torch.cuda.is_available():
        wanted = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CUDA, which this build lacks"
        cure = f"PyTorch wants {wanted}: update the driver, or set compute.device: cpu"
        return Finding("fail", "GPU", text, cure)
    return Finding("ok", "GPU", text)


def _gpu_name() -> str:
    import pynvml

    try:
        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByIndex(0)
        total = pynvml.nvmlDeviceGetMemoryInfo(card).total / _GIB
        name, driver = pynvml.nvmlDeviceGetName(card), pynvml.nvmlSystemGetDriverVersion()
        return f"{name}, {total:.0f} GB, driver {driver}"
    except pynvml.NVMLError as error:
        return f"a GPU that NVML does not describe ({error})"


def settings(recipe: str, root: Path) -> Finding:
    try:
        name, _ = settle(recipe or None, [], root)
    except UserError as error:
        return Finding("fail", "settings", str(error))
    return Finding("ok", "settings", f"{name}: every key is known and valid")


def mlflow() -> Finding:
    uri = tracking_uri()
    path = sqlite_path(uri)
    ours = version("mlflow")
    if path is not None:
        state = "in use" if path.is_file() else "made by the first run"
        if not path.is_file() and not database.template_path().is_file():
            return Finding(
                "warn", "MLflow", f"{ours}, {path}: {state}", "make setup, and that takes 10 s less"
            )
        return Finding("ok", "MLflow", f"{ours}, {path}: {state}")
    text = f"{ours}, {without_credentials(uri)}"
    try:
        check_reachable()
    except UserError as error:
        return Finding("fail", "MLflow", str(error))
    theirs = _server_version(uri) if is_server(uri) else ours
    if theirs.split(".")[:1] != ours.split(".")[:1]:
        return Finding(
            "warn", "MLflow", f"{text} runs {theirs or 'an unknown version'}", f"run a server of {ours}"
        )
    return Finding("ok", "MLflow", f"{text} runs {theirs}")


def _server_version(uri: str) -> str:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/version", timeout=5) as answer:
            return str(answer.read(100).decode(errors="replace")).strip()
    except (OSError, ValueError):
        return ""


def kubeflow(recipe: str, root: Path) -> Finding:
    """Whether the second registry answers, where there is one."""
    try:
        section = settle(recipe or None, [], root)[1]["registry"]
    except UserError:  # told by `settings`
        return Finding("ok", "Kubeflow", "no Model Registry is asked, as the settings are wrong")
    assert isinstance(section, Registry)
    try:
        second = second_registry(section)
        if second is not None:
            second.check()
    except UserError as error:
        return Finding("fail", "Kubeflow", str(error))
    if second is not None:
        return Finding("ok", "Kubeflow", f"the Model Registry at {second.address} answers")
    if section.kubeflow:
        return Finding("ok", "Kubeflow", f"no Model Registry is told: {FOR_A_SERVER}")
    return Finding("ok", "Kubeflow", "no registry.kubeflow: MLflow alone shows what is registered")


def dvc(root: Path) -> Finding:
    config = configparser.ConfigParser()
    read = config.read([root / ".dvc" / "config", root / ".dvc" / "config.local"])
    name = config.get("core", "remote", fallback="")
    if not read or not name:
        return Finding("warn", "DVC", "no default remote", "dvc remote add --default NAME URL, for make push")
    url = config.get(f"'remote \"{name}\"'", "url", fallback="")
    text = f"{version('dvc')}, remote '{name}': {without_credentials(url)}"
    place = (root / ".dvc" / url).resolve() if "://" not in url else None
    if place is not None and not os.access(next(p for p in (place, *place.parents) if p.exists()), os.W_OK):
        return Finding("fail", "DVC", text, f"{place} cannot be written: dvc remote modify {name} url PATH")
    return Finding("ok", "DVC", text)


def notifications() -> Finding:
    """Of the address nothing is shown but whose it is, and nothing is sent."""
    try:
        hook = webhook.configured()
    except UserError as error:
        return Finding("fail", "webhook", str(error))
    if hook is None:
        return Finding("ok", "webhook", f"no {WEBHOOK}: nobody is told when a run fails or promotes")
    return Finding("ok", "webhook", f"set, in the format '{hook.format}': make notify-test tries it")


def containers() -> Finding:
    """A command without its engine does not count."""
    for program in ("docker", "podman"):
        if shutil.which(program) and _works(program):
            return Finding("ok", "containers", f"{program} works")
    why = "neither docker nor podman works here: needed only for make images and make rehearse"
    return Finding("ok", "containers", why)


def _works(program: str) -> bool:
    try:
        return subprocess.run([program, "info"], capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
