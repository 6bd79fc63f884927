"""Weights from a Hugging Face hub.

Whether they can be had is found out before the run, in seconds.
"""

from __future__ import annotations

import re
from pathlib import Path

from retrainer.errors import ServiceError, SettingError
from retrainer.services.weights_identity import WAYS

TIMEOUT_SECONDS = 5.0

_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*(/[\w.\-]+)?")
# Weights as safetensors, settings, tokenizers; not the same weights again for other runtimes.
_WANTED = ["*.safetensors", "*.json", "*.txt", "*.model"]
_OTHER_RUNTIMES = ["onnx/*", "openvino/*", "coreml/*"]


def commit_of(hub_id: str, revision: str) -> str:
    """The commit that a hub id's branch or tag stands for now; offline, what the local cache holds.

    Raises UserError when it is neither reachable nor cached.
    """
    if not _HUB_ID.fullmatch(hub_id):
        raise SettingError(f"backbone.weights: {hub_id} is neither a path here nor a hub id; {WAYS}")
    cached = _cached(hub_id, revision)
    if cached is not None and (_COMMIT.fullmatch(revision) or _offline()):
        return cached.name
    try:
        commit, names = _ask(hub_id, revision)
    except Exception as error:  # the hub's client lets its HTTP library's own errors through
        if cached is not None:
            return cached.name
        raise ServiceError(f"backbone.weights: {hub_id} cannot be had ({reason(error)}); {WAYS}") from None
    if not any(name.endswith(".safetensors") for name in names):
        raise SettingError(
            f"backbone.weights: {hub_id} has no .safetensors file; pickled weights are never read"
        )
    return commit


def _ask(hub_id: str, revision: str) -> tuple[str, list[str]]:
    """Commit and file names, from the hub."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(hub_id, revision=revision or None, timeout=TIMEOUT_SECONDS)
    return str(info.sha), [file.rfilename for file in info.siblings or ()]


def snapshot(hub_id: str, commit: str) -> Path:
    """The directory of one commit, downloaded if need be. Raises UserError when it cannot be had."""
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            hub_id, revision=commit or None, allow_patterns=_WANTED, ignore_patterns=_OTHER_RUNTIMES
        )
    except OSError as error:
        raise ServiceError(f"backbone.weights: {hub_id} cannot be had ({reason(error)}); {WAYS}") from None
    return Path(found)


def _cached(hub_id: str, revision: str) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        found = Path(snapshot_download(hub_id, revision=revision or None, local_files_only=True))
    except OSError:
        return None
    return found if any(found.rglob("*.safetensors")) else None


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
