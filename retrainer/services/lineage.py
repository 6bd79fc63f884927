"""Where a model came from: what git, DVC, the image and Kubeflow know, as tags of its registered version."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

KFP_RUN_ID = "kfp_run_id"
SCHEDULED_TIME = "scheduled_time"
# Set in an image, or by the pipeline, where there is no git to ask.
_FROM_ENVIRONMENT = {
    "git_commit": "RETRAINER_GIT_COMMIT",
    "image": "RETRAINER_IMAGE",
    KFP_RUN_ID: "RETRAINER_KFP_RUN_ID",
    SCHEDULED_TIME: "RETRAINER_SCHEDULED_TIME",
}
# Of these, what names the code.
CODE = ("git_commit", "image")

_GIT_SECONDS = 10
_WRITTEN_BY_RUNS = ("dvc.lock", "recipes/stages.json")
# Where a file that git does not know yet is part of what runs.
_CODE_AND_RECIPES = ("components", "pipelines", "plugins", "recipes", "retrainer")


def of_model(model: Path) -> dict[str, str]:
    """What `of_process` says, and `dvc_model_md5` and `dvc_dataset_md5` where DVC keeps them."""
    return of_process() | {tag: md5 for tag, md5 in dvc_md5(model).items() if md5}


def of_process() -> dict[str, str]:
    """`git_commit`, `image`, `kfp_run_id` and `scheduled_time` of what runs now, where they are known."""
    found = {tag: os.environ.get(variable, "") for tag, variable in _FROM_ENVIRONMENT.items()}
    found["git_commit"] = found["git_commit"] or git_commit()
    return {tag: value for tag, value in found.items() if value}


def git_commit() -> str:
    """The checked-out commit, with `-dirty` behind it when tracked files differ, or a recipe or code is new
    and not committed; empty outside git.

    What every run writes anew (`dvc.lock`, the list of recipes) does not count.
    """
    try:
        commit = _git("rev-parse", "--verify", "HEAD")
        written = [f":(top,exclude){name}" for name in _WRITTEN_BY_RUNS]
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":(top)", *written)
        changed += _git("ls-files", "--others", "--exclude-standard", "--", *_CODE_AND_RECIPES, *written)
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{commit}-dirty" if changed else commit


def _git(*words: str) -> str:
    command = ["git", *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True
    ).stdout.strip()


def dvc_md5(model: Path, lock: Path = Path("dvc.lock")) -> dict[str, str]:
    """The md5 under which DVC keeps the model directory, and the dataset that it was made from.

    Empty when `dvc.lock` has no stage that makes `model`.
    """
    if not lock.is_file():
        return {}
    stages = yaml.load(lock.read_text(encoding="utf-8"), Loader=_loader()).get("stages", {})  # noqa: S506 (safe)
    for stage in stages.values():
        outputs = {
            (lock.parent / out["path"]).resolve(): str(out.get("md5", "")) for out in stage.get("outs", ())
        }
        if found := outputs.get(model.resolve()):
            inputs = {Path(dep["path"]).name: str(dep.get("md5", "")) for dep in stage.get("deps", ())}
            return {"dvc_model_md5": found, "dvc_dataset_md5": inputs.get("dataset", "")}
    return {}


def _loader() -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)
