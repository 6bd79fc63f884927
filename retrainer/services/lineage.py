"""Where a model came from: what git, DVC, the image and Kubeflow know, as tags of its registered version."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

# Set in an image, or by the pipeline, where there is no git to ask.
_FROM_ENVIRONMENT = {
    "git_commit": "RETRAINER_GIT_COMMIT",
    "image": "RETRAINER_IMAGE",
    "kfp_run_id": "RETRAINER_KFP_RUN_ID",
}
_GIT_SECONDS = 10


def of_model(model: Path) -> dict[str, str]:
    """What `of_process` says, and the model directory's `dvc_md5` where DVC keeps it."""
    md5 = dvc_md5(model)
    return of_process() | ({"dvc_md5": md5} if md5 else {})


def of_process() -> dict[str, str]:
    """`git_commit`, `image` and `kfp_run_id` of what runs now; what is not known is left out."""
    found = {tag: os.environ.get(variable, "") for tag, variable in _FROM_ENVIRONMENT.items()}
    found["git_commit"] = found["git_commit"] or git_commit()
    return {tag: value for tag, value in found.items() if value}


def git_commit() -> str:
    """The checked-out commit, with `-dirty` behind it when tracked files differ; empty outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def dvc_md5(path: Path, lock: Path = Path("dvc.lock")) -> str:
    """The md5 under which DVC keeps the output `path`; empty when `dvc.lock` does not name it."""
    if not lock.is_file():
        return ""
    stages = yaml.load(lock.read_text(encoding="utf-8"), Loader=_loader())  # noqa: S506 (a safe loader).get("stages", {})
    outputs = [output for stage in stages.values() for output in stage.get("outs", ())]
    wanted = path.resolve()
    return next((str(o.get("md5", "")) for o in outputs if (lock.parent / o["path"]).resolve() == wanted), "")


def _loader() -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)
