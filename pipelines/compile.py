"""A recipe's Kubeflow pipeline as one YAML file."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from typing import Any

from kfp import compiler

from pipelines.kubeflow import Cluster, Settings, pipeline_of
from retrainer.errors import UserError
from retrainer.models import reads_weights
from retrainer.own_code import command_digest, plugin_digest
from retrainer.resolve import RUN, registered_names, settle
from retrainer.services import storage, weights

BUILD = Path("build")
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


def compile_recipe(
    recipe: str | None,
    overrides: list[str],
    image: str,
    allow_mutable: bool = False,
    secret: str = "",
    root: Path = Path(),
) -> Path:
    """Writes `build/<recipe>.yaml` and returns its path.

    Raises UserError for an image that a tag names, unless `allow_mutable`, and for settings that are wrong.
    """
    check_image(image, allow_mutable)
    name, settings = cluster_settings(recipe, overrides, root)
    path = root / BUILD / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiler.Compiler().compile(pipeline_of(name, settings, Cluster(image, secret)), str(path))
    return path


def check_image(image: str, allow_mutable: bool) -> None:
    if _DIGEST.search(image) or (allow_mutable and image):
        return
    if not image:
        raise UserError("IMAGE= is empty: give registry/name@sha256:…, the image that holds this project")
    raise UserError(
        f"IMAGE={image}: this name can be moved to other code, and Kubeflow's cache goes by the name: "
        "it would serve results of the old code. Give registry/name@sha256:… (as `podman push --digestfile` "
        "or `docker inspect` print it), or ALLOW_MUTABLE=1 for a trial"
    )


def cluster_settings(recipe: str | None, overrides: list[str], root: Path) -> tuple[str, Settings]:
    """The recipe's settings with what this machine alone knows left open: the step settles it where it runs.

    Weights are pinned, so that the cluster's cache knows them apart; the source is read as it is on the day.
    """
    name, sections = settle(recipe, overrides, root)
    source: Any = sections["source"]
    task: Any = sections["task"]
    backbone: Any = sections["backbone"]
    training: Any = sections["training"]
    if source.path and not storage.is_remote(source.path):
        print(f"note: source.path {source.path} must exist inside the image", file=sys.stderr)
    sections["source"] = source.model_copy(update={"digest": ""})
    sections["task"] = task.model_copy(update={"code_digest": plugin_digest(task.kind)})
    sections["training"] = training.model_copy(update={"code_digest": command_digest(training.command, root)})
    backbone = backbone.model_copy(update={"code_digest": plugin_digest(backbone.family)})
    if reads_weights(backbone, training):
        backbone = weights.pin(backbone, root / RUN / "digests.json", registered_names(root))
    sections["backbone"] = backbone
    return name, {key: section.plain() for key, section in sections.items()}
