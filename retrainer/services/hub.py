"""Weights from outside: a Hugging Face hub, and the files that torchvision and timm call `imagenet`.

Whether they can be had is found out before the run, in seconds.
"""

from __future__ import annotations

import os
import re
import urllib.request
from pathlib import Path

from retrainer import extend
from retrainer.errors import UserError
from retrainer.services.weights import WAYS
from retrainer.settings import Backbone

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
        raise UserError(f"backbone.weights: {hub_id} is neither a path here nor a hub id; {WAYS}")
    cached = _cached(hub_id, revision)
    if cached is not None and (_COMMIT.fullmatch(revision) or _offline()):
        return cached.name
    try:
        commit, names = _ask(hub_id, revision)
    except Exception as error:  # the hub's client lets its HTTP library's own errors through
        if cached is not None:
            return cached.name
        raise UserError(f"backbone.weights: {hub_id} cannot be had ({_reason(error)}); {WAYS}") from None
    if not any(name.endswith(".safetensors") for name in names):
        raise UserError(
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
        raise UserError(f"backbone.weights: {hub_id} cannot be had ({_reason(error)}); {WAYS}") from None
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


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def check_imagenet(backbone: Backbone) -> None:
    """Raises UserError unless ImageNet weights for `backbone.name` lie in the cache or can be downloaded."""
    if backbone.family == "torchvision":
        name = _architecture(backbone)
        if not any(_torch_cache().glob(f"{name}-*.pth")):
            _check_torchvision(name)
    elif backbone.family == "timm":
        name = _architecture(backbone)
        if not any(_hub_cache().glob(f"models--timm--{name}*/snapshots/*/*.safetensors")):
            _check_timm(name)
    elif "." not in backbone.family:
        raise UserError(
            f"backbone.weights: family {backbone.family} has no imagenet weights of its own; name a hub id,"
            " or take family torchvision or timm"
        )


def _architecture(backbone: Backbone) -> str:
    """The family's `name`, its default where the settings leave it out."""
    options = extend.load("models", backbone.family, "backbone.family").Options
    return str(options.parse(backbone.options, "backbone").name)


def _check_torchvision(name: str) -> None:
    from torchvision.models import get_model_weights

    try:
        url = get_model_weights(name).DEFAULT.url
    except (ValueError, AttributeError):
        raise UserError(f"backbone.name: torchvision has no ImageNet weights for {name!r}") from None
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
            pass
    except OSError as error:
        place = _torch_cache() / Path(url).name
        raise UserError(
            f"backbone.weights: imagenet for {name} cannot be downloaded ({_reason(error)}); put the file at"
            f" {place}, or: {WAYS}"
        ) from None


def _check_timm(name: str) -> None:
    import timm

    if not timm.is_model_pretrained(name):
        raise UserError(f"backbone.name: timm has no pretrained weights for {name!r}")
    commit_of(timm.get_pretrained_cfg(name).hf_hub_id, "")


def _torch_cache() -> Path:
    """Where torch.hub keeps what torchvision downloads."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("TORCH_HOME") or f"{home}/torch").expanduser() / "hub" / "checkpoints"


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)
