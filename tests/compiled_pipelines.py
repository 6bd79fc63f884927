"""What the tests of the compiled pipeline share: images, settings, and a container of the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from components.steps import STEPS
from pipelines.compile import Compiled, compile_recipe, images_named
from retrainer.settings import SECTIONS, Cluster
from tests.conftest import ROOT

IMAGE = "registry.example/retrainer@sha256:" + "a" * 64
LIGHT_IMAGE = "registry.example/retrainer-light@sha256:" + "b" * 64
IMAGES = images_named(IMAGE, LIGHT_IMAGE)


def documents(text: str) -> list[Any]:
    """Those of a YAML file; read by libyaml, as a compiled pipeline is long."""
    return list(yaml.load_all(text, yaml.CSafeLoader))


def defaults() -> dict[str, dict[str, Any]]:
    return {name: section().plain() for name, section in SECTIONS.items() if section is not Cluster}


def container_of(spec: dict[str, Any], step: str) -> dict[str, Any]:
    found: dict[str, Any] = spec["deploymentSpec"]["executors"][f"exec-{step}"]["container"]
    return found


def project_of(folder: Path) -> Path:
    """Settings and one recipe, as `compile_recipe` reads them."""
    (folder / "recipes").mkdir()
    lent = "\ncluster: {mlflow_secret: mlflow}\n"
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text() + lent)
    (folder / "recipes/digits-mlp.yaml").write_text((ROOT / "recipes/digits-mlp.yaml").read_text())
    return folder


def compiled(project: Path, *overrides: str, image: str = IMAGE) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline, and by step what Kubernetes alone reads."""
    made = compile_made(project, *overrides, image=image)
    spec, platform = documents(made.path.read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return spec, {step: executors[f"exec-{step}"] for step in STEPS}


def compile_made(project: Path, *overrides: str, image: str = IMAGE) -> Compiled:
    """With every step: by the policy `always` the pipeline lacks one."""
    overrides = ("retrain.policy=drift", *overrides)
    return compile_recipe("digits-mlp", list(overrides), images_named(image, allow_mutable=True), project)


def environment_of(spec: dict[str, Any], step: str) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container_of(spec, step)["env"]}


def default_of(spec: dict[str, Any], section: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        spec["root"]["inputDefinitions"]["parameters"][section]["defaultValue"]
    )
    return found
