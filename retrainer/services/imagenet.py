"""The weights that torchvision and timm call `imagenet`: whether they can be had, and exactly which ones.

timm publishes them on a hub: a commit is pinned and fetched, as of any hub id. torchvision's file carries the
first digits of its sha256 in its name, which the family checks; the name follows from torchvision's version.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from retrainer import extend
from retrainer.errors import SettingError
from retrainer.formats.files import write_json
from retrainer.services.hub import TIMEOUT_SECONDS, commit_of, reason, snapshot
from retrainer.services.weights_identity import WAYS, FileDigests, settled
from retrainer.settings import Backbone


def pin_imagenet(backbone: Backbone, cache: Path) -> Backbone:
    """The backbone with the published weights pinned; what torchvision publishes is remembered in `cache`.

    Raises UserError when there are none for `backbone.name`, or they can neither be had nor lie here.
    """
    if backbone.family == "timm":
        return backbone.model_copy(update={"revision": commit_of(_timm_id(backbone), backbone.revision)})
    if backbone.family == "torchvision":
        _check_torchvision(backbone, cache)
    elif backbone.family == "keras":
        raise SettingError(
            "backbone.weights: Keras downloads its imagenet weights itself: save them once by"
            " keras.applications.NAME(weights='imagenet').save('mine.keras'), and name that file"
        )
    elif "." not in backbone.family:
        raise SettingError(
            f"backbone.weights: family {backbone.family} has no imagenet weights of its own; name a hub id,"
            " or take family torchvision or timm"
        )
    return backbone


def fetch_imagenet(backbone: Backbone) -> Path | str:
    """timm's file of the pinned commit; for the other families the word itself."""
    if backbone.family != "timm":
        return backbone.weights
    hub_id = _timm_id(backbone)
    found = sorted(snapshot(hub_id, backbone.revision).glob("model.safetensors"))
    if not found:
        raise SettingError(f"backbone.weights: {hub_id} has no model.safetensors; {WAYS}")
    if backbone.weights_sha256:
        settled(backbone, [FileDigests(None).of(found[0])])
    return found[0]


def _timm_id(backbone: Backbone) -> str:
    """The hub id under which timm publishes the architecture's weights."""
    try:
        import timm
    except ModuleNotFoundError:
        raise SettingError("backbone.family: timm is not installed; pip install 'retrainer[timm]'") from None
    name = _architecture(backbone)
    if not timm.is_model_pretrained(name):
        raise SettingError(f"backbone.name: timm has no pretrained weights for {name!r}")
    return str(timm.get_pretrained_cfg(name).hf_hub_id)


def _architecture(backbone: Backbone) -> str:
    """The family's `name`, its default where the settings leave it out."""
    options = extend.load("models", backbone.family, "backbone.family").Options
    return str(options.parse(backbone.options, "backbone").name)


def _check_torchvision(backbone: Backbone, cache: Path) -> None:
    if backbone.weights_sha256 or backbone.revision:
        raise SettingError(
            "backbone.weights: torchvision's imagenet files are checked by the hash in their names; remove"
            " backbone.weights_sha256 and backbone.revision, or give the file as .safetensors to pin it"
        )
    name = _architecture(backbone)
    url = _torchvision_url(name, cache)
    place = _torch_cache() / Path(url).name
    if place.is_file():
        return
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
            pass
    except OSError as error:
        raise SettingError(
            f"backbone.weights: imagenet for {name} cannot be downloaded ({reason(error)}); put the file at"
            f" {place}, or: {WAYS}"
        ) from None


def _torchvision_url(name: str, cache: Path) -> str:
    """Where torchvision publishes them. Importing it takes seconds, so its answer is kept by its version."""
    key = f"{name} of torchvision {importlib.metadata.version('torchvision')}"
    known: dict[str, Any] = {}
    if cache.is_file():
        with suppress(ValueError):
            known = json.loads(cache.read_text(encoding="utf-8"))
    if key not in known:
        from torchvision.models import get_model_weights

        try:
            known[key] = get_model_weights(name).DEFAULT.url
        except (ValueError, AttributeError):
            raise SettingError(f"backbone.name: torchvision has no ImageNet weights for {name!r}") from None
        write_json(cache, known)
    return str(known[key])


def _torch_cache() -> Path:
    """Where torch.hub keeps what torchvision downloads."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("TORCH_HOME") or f"{home}/torch").expanduser() / "hub" / "checkpoints"
