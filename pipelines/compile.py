"""A recipe's Kubeflow pipeline as one YAML file, in which nothing is left to the machine that runs it."""

from __future__ import annotations

import os
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from kfp import compiler

from components.steps import STEPS
from pipelines._pods import check_steps, cores, resources_of
from pipelines.cluster import rules
from pipelines.containers.backend.dag import parts_of
from pipelines.containers.images import CODE
from pipelines.kubeflow import Images, Settings, pipeline_of
from pipelines.prediction import Scoring, prediction_pipeline, scoring_name
from retrainer.code.digests import project_code, step_digests
from retrainer.code.own import command_files
from retrainer.errors import SettingError
from retrainer.models import reads_weights
from retrainer.resolve import RUN, pin_code_and_weights, registered_names, settle
from retrainer.services import lookup, storage
from retrainer.services.address import is_server, tracking_uri
from retrainer.services.weights import is_of_this_machine
from retrainer.settings import Backbone, Cluster, Compute, Registry, Training

BUILD = Path("build")
PROJECT = Path(__file__).parents[1]
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


@dataclass(frozen=True)
class Compiled:
    """The file, and what of the settings the one who submits it needs."""

    path: Path
    recipe: str
    cluster: Cluster
    experiment: str
    settings: Settings


def compile_recipe(
    recipe: str | None,
    overrides: list[str],
    images: Images,
    root: Path = Path(),
    into: Path = BUILD,
    rehearsed: bool = False,
    scheduled: bool = False,
    scoring: Scoring | None = None,
) -> Compiled:
    """Writes `build/<recipe>.yaml`; `scheduled`: for runs that a schedule starts; with `scoring` the pipeline
    that predicts, else the one that retrains.

    Raises SettingError for settings that are wrong, for files that no pod finds, and where the steps would
    find no MLflow; one that is to be `rehearsed` is lent the files of its source, and an MLflow.
    """
    # The versions of a rehearsal are nobody's.
    overrides = [*overrides, "registry.kubeflow=''"] if rehearsed else overrides
    name, settings, cluster = cluster_settings(recipe, overrides, root)
    if not rehearsed:
        require_registry(cluster, scheduled)
        note_launcher_keys(cluster)
    if scoring is not None:
        scoring.check()
    else:
        refuse_files_of_this_machine(settings, () if images.ours else cluster.image_holds, root, rehearsed)
    label = name if scoring is None else scoring_name(name)
    path = root / into / f"{label}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if scoring is None:
            made = pipeline_of(name, settings, images, cluster, scheduled, code_of(settings, root))
        else:
            made = prediction_pipeline(name, settings, images, cluster, scoring)
        compiler.Compiler().compile(made, str(path))
    rules.check(*parts_of(path.read_text(encoding="utf-8")))
    return Compiled(path, label, cluster, cluster.experiment or settings["registry"]["name"], settings)


def require_registry(cluster: Cluster, scheduled: bool) -> None:
    """Raises SettingError where the steps would register into a database inside the pod, lost with it.

    What Kubeflow's own MLflow plugin tells the steps reaches no scheduled run: it is added when the API
    server makes a run, and a schedule's runs are made by another program (KFP 2.17,
    backend/src/apiserver/resource/resource_manager.go:714 and 1299).
    """
    if cluster.mlflow_secret:
        return
    lost = "the steps would register into a database inside their pods, lost with them"
    cure = (
        "Make a Kubernetes secret with MLFLOW_TRACKING_URI=http(s)://… and name it: SECRET=name,"
        " or cluster.mlflow_secret"
    )
    if scheduled:
        raise SettingError(f"cluster.mlflow_secret is empty: in scheduled runs {lost}. {cure}")
    if not is_server(tracking_uri()):
        raise SettingError(
            f"cluster.mlflow_secret is empty, and MLFLOW_TRACKING_URI here is a local file: {lost}. {cure}"
        )
    print(
        "note: cluster.mlflow_secret is empty: the steps find MLflow only if Kubeflow itself tells them",
        file=sys.stderr,
    )


def note_launcher_keys(cluster: Cluster) -> None:
    """Says what Kubeflow's launcher lacks in steps that are lent no S3 (backend/src/v2/config/s3.go:80)."""
    root = os.environ.get("KFP_PIPELINE_ROOT", "")
    if storage.is_remote(root) and cluster.storage_secret and not cluster.launcher_keys:
        print(
            "note: KFP_PIPELINE_ROOT is in S3: where the ConfigMap kfp-launcher names no provider for it, set"
            " cluster.launcher_keys: true, or preprocess cannot store what it makes",
            file=sys.stderr,
        )


def refuse_files_of_this_machine(
    settings: Settings, held: tuple[str, ...], root: Path, lends_source: bool
) -> None:
    """Raises SettingError for a source, weights or a trainer that no pod finds.

    `held`: what the image that was named holds by the user's own word, `cluster.image_holds`.
    """
    own_image = "name the image that holds it by IMAGE=, and its place there in cluster.image_holds"
    for key in ("path", "test_path"):
        path = settings["source"][key]
        if path and not storage.is_remote(path) and not lends_source and not _is_held(path, held):
            raise SettingError(
                f"source.{key}: {path} is on this machine, and no pod finds it there: put it into S3 and name"
                f" s3://…, or {own_image}"
            )
    weights = local_weights(settings)
    if weights and not _is_held(weights, held):
        raise SettingError(
            f"backbone.weights: {weights} is on this machine, and no pod finds it there: name a registered"
            f" model (models:/NAME@ALIAS), package:NAME or a hub id, or {own_image}"
        )
    command = settings["training"]["command"]
    for file in command_files(command, root) if command else ():
        place = _own_place(file, root)
        if place and place.parts[0] not in CODE and not _is_held(place, held):
            raise SettingError(
                f"training.command: {place} is not in the images of make images, which hold of your folders"
                f" only plugins/: move it there, or {own_image}"
            )


def local_weights(settings: Settings) -> str:
    """The path on this machine that training would be given as weights; empty for none, or none of here."""
    backbone = Backbone.parse(settings["backbone"], "backbone")
    needed = reads_weights(backbone, Training.parse(settings["training"], "training"))
    return backbone.weights if needed and is_of_this_machine(backbone.weights) else ""


def _is_held(path: str | PurePath, held: tuple[str, ...]) -> bool:
    return any(PurePath(path).is_relative_to(place) for place in held)


def _own_place(file: Path, root: Path) -> Path | None:
    """Where in the checkout the file lies; None for one elsewhere, or in the environment."""
    if not file.resolve().is_relative_to(root.resolve()):
        return None
    place = file.resolve().relative_to(root.resolve())
    return None if place.parts[0].startswith(".") else place


def images_named(full: str, light: str = "", allow_mutable: bool = False, ours: bool = False) -> Images:
    """One image for all steps, or a second, lighter one for those without torch.

    Raises UserError for an image that a tag names, unless `allow_mutable`: then nothing is cached either.
    """
    references = (full, light or full)
    for reference in references:
        check_image(reference, allow_mutable)
    fixed = all(_DIGEST.search(reference) for reference in references)
    return Images(*references, fixed=fixed, ours=ours)


def check_image(image: str, allow_mutable: bool) -> None:
    if _DIGEST.search(image) or (allow_mutable and image):
        return
    if not image:
        raise SettingError("IMAGE= is empty: give registry/name@sha256:…, the image that holds this project")
    raise SettingError(
        f"IMAGE={image}: this name can be moved to other code, and Kubeflow's cache goes by the name: "
        "it would serve results of the old code. Give registry/name@sha256:… (as `make images PUSH=…` prints "
        "it), or ALLOW_MUTABLE=1 for a trial"
    )


def cluster_settings(recipe: str | None, overrides: list[str], root: Path) -> tuple[str, Settings, Cluster]:
    """The recipe's name, its settings as the steps get them, and the section that describes the pods.

    Weights are pinned, and device, number format and threads are written out, so that equal inputs mean equal
    results; the source is read as it is on the day.
    """
    name, sections = settle(recipe, overrides, root)
    parts: dict[str, Any] = dict(sections)
    cluster: Cluster = parts.pop("cluster")
    check_steps(cluster)
    registry: Registry = parts["registry"]
    parts["source"] = parts["source"].model_copy(update={"digest": ""})
    parts["backbone"] = with_prefix(parts["backbone"], cluster, root)
    parts["compute"] = settled_compute(parts["compute"], cluster)
    parts["registry"] = registry.model_copy(update={"name": cluster.model_prefix + registry.name})
    code = project_code(PROJECT, root / RUN)
    pinned = pin_code_and_weights(parts, root, root / RUN, code)
    code.remember()
    return name, {key: section.plain() for key, section in pinned.items()}, cluster


def code_of(settings: Settings, root: Path) -> dict[str, str]:
    """Step → digest of its code, as `make pipeline` has it. What an image holds, its own digest tells."""
    code = project_code(PROJECT, root / RUN)
    digests = step_digests(STEPS, settings, code, root)
    code.remember()
    return digests


def with_prefix(backbone: Backbone, cluster: Cluster, root: Path) -> Backbone:
    """Weights that another recipe here registers go by the team's prefix as well."""
    address = lookup.address_of(backbone.weights)
    if not (cluster.model_prefix and address and address.name in registered_names(root)):
        return backbone
    prefixed = address._replace(name=f"{cluster.model_prefix}{address.name}")
    return backbone.model_copy(update={"weights": str(prefixed)})


def settled_compute(compute: Compute, cluster: Cluster) -> Compute:
    """What this machine cannot know follows from train's pod; bfloat16 on a CPU must be asked for by name."""
    if cluster.gpus and compute.device == "cpu":
        raise SettingError(
            f"cluster.gpus: {cluster.gpus}, but compute.device is cpu and would leave them idle; change one"
        )
    device = compute.device if compute.device != "auto" else "cuda" if cluster.gpus else "cpu"
    dtype = compute.dtype if compute.dtype != "auto" else "bfloat16" if device == "cuda" else "float32"
    threads = compute.threads or cores(resources_of("train", cluster).cpu_limit)
    # Our images hold no C compiler, and the versions of the packages are theirs.
    without = compute.compile == "auto" or (compute.compile == "kernels" and device == "cpu")
    compiled = False if without else compute.compile
    settled: dict[str, object] = {"device": device, "dtype": dtype, "threads": threads, "packages": {}}
    settled["compile"] = compiled
    return compute.model_copy(update=settled)
