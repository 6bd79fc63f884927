"""Processes that share the weights (`compute.fsdp`) train what one process trains."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from retrainer.errors import UserError
from retrainer.formats.model_files import HISTORY, WEIGHTS
from retrainer.services.checkpoint_store import CheckpointPlace
from retrainer.settings import Backbone, Compute, Task, Training
from retrainer.training._distributed import Group
from retrainer.training._stop import Stop
from retrainer.training.compute import resolve_compute
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import Session, train_model
from tests.small_datasets import MLP, TASK, image_dataset
from tests.small_networks import PLAIN, settings

pytestmark = pytest.mark.usefixtures("torch_settings_restored")

SHARED = PLAIN.model_copy(update={"processes": 2, "fsdp": True})
NEVER = 1000.0


@pytest.fixture(scope="module")
def ragged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """67 rows: batches of 16 leave 3, of which the second process gets none; three batches to validate."""
    return image_dataset(
        tmp_path_factory.mktemp("data") / "dataset", {"train": 67, "validation": 1100, "test": 8}
    )


def made(out: Path, dataset: Path, training: Training, compute: Compute, **more: Any) -> dict[str, Any]:
    task, backbone, weights = more.pop("task", TASK), more.pop("backbone", MLP), more.pop("weights", None)
    inputs = Inputs(dataset, Settings(task, backbone, training, compute), weights)
    train_model(inputs, out, Session(**more))
    return {"weights": load_file(out / WEIGHTS), "history": json.loads((out / HISTORY).read_text())}


def agree(one: dict[str, Any], two: dict[str, Any]) -> None:
    for first, second in zip(one["history"], two["history"], strict=True):
        assert first == pytest.approx(second, rel=1e-5, abs=1e-7)
    assert one["weights"].keys() == two["weights"].keys()
    for name, tensor in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], tensor, rtol=0, atol=1e-5)


def test_shared_weights_train_as_one_process_does(ragged: Path, tmp_path: Path) -> None:
    plan = settings(epochs=3, accumulate=2, ema_decay=0.9, clip_norm=0.1)
    agree(made(tmp_path / "one", ragged, plan, PLAIN), made(tmp_path / "two", ragged, plan, SHARED))
