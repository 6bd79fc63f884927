"""What the tests of the compiled pipeline share: images, settings, and a container of the result."""

from __future__ import annotations

from typing import Any

import yaml

from pipelines.compile import images_named
from retrainer.settings import SECTIONS, Cluster

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
