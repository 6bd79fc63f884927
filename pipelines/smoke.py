"""Fifty rows through every step, in seconds and apart from everything else.

Data, model, report and registry lie in `.run/smoke/<recipe>`; `runs/`, `dvc.lock` and the real registry
are not touched. The steps are called by their command lines, in one process: imports are paid for once.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from components.command import main as step_main
from components.command import step_named
from components.steps import STEPS
from retrainer.contract import contract_of
from retrainer.registry.serving_check import serving_check_begun
from retrainer.resolve import RUN, recipe_name, registered_names, resolve, settle
from retrainer.services import kubeflow_registry, lookup, weights
from retrainer.settings import Backbone

# Enough rows to meet most mistakes, and the least work on each.
SMALL = (
    "split.limit=50",
    "split.train_per_class=0",
    "split.validation_per_class=0",
    "training.epochs=1",
    "training.batch_size=16",
    "evaluation.resamples=100",
)


def smoke(recipe: str | None, overrides: list[str], root: Path = Path()) -> int:
    """Returns the exit status of the step that failed, 0 when all passed."""
    began = time.monotonic()
    name = recipe_name(recipe, root)
    folder = root / RUN / "smoke" / name
    shutil.rmtree(folder, ignore_errors=True)
    overrides = [*overrides, *SMALL, *_weights_from_the_real_registry(name, overrides, root)]
    resolved = resolve(name, overrides, root, directory=folder)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{(folder / 'mlflow.db').absolute()}"
    os.environ.pop("MLFLOW_REGISTRY_URI", None)
    os.environ[kubeflow_registry.ADDRESS] = kubeflow_registry.NONE
    with serving_check_begun(_backbone(recipe, overrides, root).family):
        for step in STEPS:
            started = time.monotonic()
            status = step_main(
                [step, "--settings", str(resolved.directory / "settings.json"), *_ports(step, folder)]
            )
            if status:
                print(f"smoke: {name} stopped at {step}; what it made so far is in {folder}", file=sys.stderr)
                return status
            print(f"── {step}: {time.monotonic() - started:.1f} s", flush=True)
    seconds = time.monotonic() - began
    print(f"smoke: {name} passes every step in {seconds:.0f} s (figures of 50 rows mean nothing)")
    return 0


def _ports(step: str, folder: Path) -> list[str]:
    ports = contract_of(step_named(step)).named("input", "output")
    return [word for port in ports for word in (f"--{port}", str(folder / port))]


def _backbone(recipe: str | None, overrides: list[str], root: Path) -> Backbone:
    backbone = settle(recipe, overrides, root)[1]["backbone"]
    assert isinstance(backbone, Backbone)
    return backbone


def _weights_from_the_real_registry(recipe: str, overrides: list[str], root: Path) -> list[str]:
    """`models:/…` weights as a local directory, since the smoke run has a registry of its own."""
    backbone = _backbone(recipe, overrides, root)
    if not backbone.weights.startswith(lookup.SCHEME):
        return []
    pinned = weights.pin(backbone, root / RUN / "digests.json", registered_names(root))
    return [f"backbone.weights={weights.fetch(pinned)}"]
