"""A user's own trainer: what docs/own-trainer.md shows, and what is said of a model that cannot be used."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from retrainer.check_step import check_step
from retrainer.errors import UserError
from retrainer.formats.model_keys import FROM_TRAINER, Description
from tests.own_trainers import PAGE
from tests.registered import image_dataset

PIXELS = {"kind": "pixels", "size": [8, 8], "channels": 1, "mean": [0.5], "std": [0.5]}
RECIPE = """
registry: {name: net}
task: {kind: image_classification, size: 8, channels: 1}
backbone: {family: mlp}
training: {strategy: scratch, command: python -m plugins.my_train}
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_dataset(tmp_path_factory.mktemp("data") / "dataset")


@pytest.fixture
def project(tmp_path: Path, dataset: Path) -> Path:
    """A recipe, its dataset, and in `out` what a trainer has to write for it."""
    (tmp_path / "params.yaml").write_text(RECIPE)
    (tmp_path / "runs/net").mkdir(parents=True)
    (tmp_path / "runs/net/dataset").symlink_to(dataset)
    write_by_hand(tmp_path / "out")
    return tmp_path


def write_by_hand(out: Path) -> None:
    """By a program that knows nothing of this library."""
    out.mkdir()
    tensors = {"body.0.weight": torch.ones(6, 64), "body.0.bias": torch.zeros(6)}
    tensors |= {"head.weight": torch.ones(3, 6), "head.bias": torch.zeros(3)}
    save_file(tensors, out / "model.safetensors")
    description = {"family": "mlp", "config": {"inputs": 64, "hidden": [6]}, "preprocessing": PIXELS}
    (out / "model.json").write_text(json.dumps(description | {"labels": ["a", "b", "c"]}))


def change(out: Path, **changes: Any) -> None:
    """Keys of model.json; None takes one out."""
    described = json.loads((out / "model.json").read_text()) | changes
    (out / "model.json").write_text(json.dumps({k: v for k, v in described.items() if v is not None}))


def reweigh(out: Path, turn: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(out / "model.safetensors")
    turn(tensors)
    save_file(tensors, out / "model.safetensors")


def told(project: Path) -> str:
    with pytest.raises(UserError) as caught:
        check_step(None, project / "out", project)
    message = str(caught.value).replace(f"{project / 'out'}/", "").replace(str(project / "out"), "out")
    assert "\n" not in message
    return message


# --- what is refused -----------------------------------------------------------------------------------


def test_what_is_right_is_said_to_be(project: Path) -> None:
    found = check_step(None, project / "out", project)
    assert found[0].startswith(f"{project}/out is what a trainer has to write for RECIPE=net")
    assert "it answers a row of it" in found[1]
    assert {path.name for path in (project / "out").iterdir()} == {"model.json", "model.safetensors"}
    (project / "runs/net/dataset").unlink()
    assert "labels and answers were not checked" in check_step(None, project / "out", project)[1]


@pytest.mark.parametrize("key", [key for key in FROM_TRAINER if Description.model_fields[key].is_required()])
def test_a_key_that_is_missing_is_named(key: str, project: Path) -> None:
    change(project / "out", **{key: None})
    assert (
        told(project)
        == f"model.json: '{key}' is missing; add it: {Description.model_fields[key].description}"
    )


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (lambda out: change(out, config=None), "'config' is missing; add it"),
    "a misspelt key": (
        lambda out: change(out, temprature=2),
        "nobody reads 'temprature'; remove or rename it; did you mean 'temperature'?",
    ),
    "a head by another name": (
        lambda out: reweigh(out, lambda t: t.update({"classifier.bias": t.pop("head.bias")})),
        "has no 'head.bias' [3], and 'classifier.bias' instead",
    ),
    "another width": (
        lambda out: change(out, config={"inputs": 64, "hidden": [7]}),
        "'body.0.weight' and 2 more is [6, 64], and 'config' of model.json makes it [7, 64]",
    ),
    "a label less": (
        lambda out: change(out, labels=["a", "b"]),
        "names 2 labels, but model.safetensors has a head of 3",
    ),
    "an unknown label": (
        lambda out: change(out, labels=["a", "b", "cc"]),
        "'labels' has 'cc', which is no class of the dataset; take it out, or spell it as the dataset does;"
        " did you mean 'c'",
    ),
    "a class without an output": (
        lambda out: (change(out, labels=["a", "b"]), reweigh(out, cut)),
        "'labels' lacks 'c', the class of 4 training rows; add it there",
    ),
    "a pickle": (
        lambda out: (out / "state.pt").write_bytes(pickle.dumps({})),
        "state.pt is a pickle, and to load one runs whatever code is in it",
    ),
    "images of another size": (
        lambda out: change(out, preprocessing=PIXELS | {"size": [9, 9]}),
        "out: the network cannot take a row of the dataset (mat1 and mat2 shapes cannot be multiplied",
    ),
    "logits without bounds": (
        lambda out: reweigh(out, lambda t: t["head.weight"].fill_(3e38)),
        "answers a row of the dataset with values that are no numbers",
    ),
    "a family that is nowhere": (
        lambda out: change(out, family="plugins.my_nett"),
        "family: no module plugins.my_nett; expected the file plugins/my_nett.py",
    ),
}


def cut(tensors: dict[str, torch.Tensor]) -> None:
    for name in ("head.weight", "head.bias"):
        tensors[name] = tensors[name][:2].clone()


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_registered_is_told_with_the_cure(what: str, project: Path) -> None:
    spoil, message = WRONG[what]
    spoil(project / "out")
    assert message in told(project)


def test_the_page_quotes_what_is_really_said(project: Path) -> None:
    said = []
    for number, (spoil, _) in enumerate(WRONG.values()):
        out = project / "out"
        out.rename(project / f"before-{number}")
        write_by_hand(out)
        spoil(out)
        said.append(told(project))
    quoted = re.findall(r"^\| `(.*?)` \|", PAGE.read_text(encoding="utf-8"), re.M)
    quoted = [line for line in quoted if line.endswith("…")]
    assert len(quoted) == 8
    for line in quoted:
        parts = [part for part in re.split(r"…|\[\d.*?\]|'[\w.]+'", line) if part.strip(" ()")]
        assert any(all(part.strip() in message for part in parts) for message in said), line
