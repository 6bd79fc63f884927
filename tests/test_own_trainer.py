"""A user's own trainer: what docs/own-trainer.md shows, and what is said of a model that cannot be used."""

from __future__ import annotations

import json
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression

from retrainer.champion import Champion, load_champion
from retrainer.check_step import check_step
from retrainer.errors import UserError
from retrainer.formats.dataset import Dataset, write_dataset
from retrainer.formats.model_keys import FROM_TRAINER, Description
from retrainer.registry.register import register_model
from retrainer.resolve import validate
from retrainer.settings import Registry
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import train_model
from tests import small_datasets
from tests.champions import own_environment, without_serving_check
from tests.conftest import ROOT
from tests.own_trainers import PAGE, write_plugins
from tests.registered import image_dataset, judged
from tests.small_networks import PLAIN

# MLflow's own calls of other libraries.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]
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


# --- what the page shows -------------------------------------------------------------------------------


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """A project whose plug-ins are the page's; returns the sections of its recipes."""
    own_environment(monkeypatch, tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "plugins"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/__init__.py").touch()
    yield [yaml.safe_load(recipe) for recipe in write_plugins(tmp_path)]
    for name in [name for name in sys.modules if name.partition(".")[0] == "plugins"]:
        del sys.modules[name]


def champion_of(name: str, dataset: Path, recipe: dict[str, Any], **backbone: Any) -> Champion:
    """Trained by the recipe's command as the step does it, judged, and registered as champion."""
    sections = validate({"registry": {"name": name}} | recipe | ({"backbone": backbone} if backbone else {}))
    settings: Any = Settings(*(sections[part] for part in ("task", "backbone", "training")), PLAIN)
    model = Path("model")
    train_model(Inputs(dataset, settings, None), model)
    report = judged(Path("report"), dataset, model, None)
    assert register_model(model, report, Path("registration"), Registry(name=name))["alias"] == "champion"
    Path("params.yaml").write_text(f"registry: {{name: {name}}}\ntask: {json.dumps(recipe['task'])}\n")
    return load_champion()


@pytest.mark.slow
@pytest.mark.usefixtures("torch_settings_restored")
def test_the_pages_plain_torch_becomes_champion_and_predicts(
    plugins: list[dict[str, Any]], tmp_path: Path
) -> None:
    """With its own network, which the registered version carries: a fresh process has answered by it."""
    dataset = small_datasets.image_dataset(tmp_path / "dataset", {"train": 200, "test": 40})
    found = champion_of("torchy", dataset, plugins[0])
    test = Dataset(dataset).split("test")
    answers = found.predict([row["bytes"] for row in test["image"].to_pylist()])
    truth = [had for (had,) in test["labels"].to_pylist()]
    right = [said["prediction"] == had for said, had in zip(answers, truth, strict=True)]
    assert sum(right) >= 36
    history = json.loads(Path("model/history.json").read_text())
    assert [entry["epoch"] for entry in history] == list(range(1, 9))


@pytest.mark.slow
@pytest.mark.usefixtures("torch_settings_restored")
def test_the_pages_scikit_learn_becomes_champion_and_predicts_as_it_does(
    plugins: list[dict[str, Any]], tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_serving_check(monkeypatch)
    tables = {
        "train": small_datasets.reviews_table(120, "train"),
        "test": small_datasets.reviews_table(30, "test"),
    }
    write_dataset(tmp_path / "dataset", tables)
    recipe = plugins[1] | {"task": plugins[1]["task"] | {"max_length": 32}}  # as this tiny encoder has it
    found = champion_of("linear", tmp_path / "dataset", recipe, family="transformers", weights=str(bert))
    predictor, train = found.model.predictor, tables["train"]
    labels = [row[0] for row in train["labels"].to_pylist()]
    fitted = LogisticRegression(max_iter=1000).fit(predictor.features(train), labels)
    texts = tables["test"]["text"].to_pylist()
    wanted = fitted.predict_proba(predictor.features(tables["test"]))
    for said, row in zip(found.predict(texts), wanted, strict=True):
        assert said["prediction"] == fitted.classes_[row.argmax()]
        assert said["confidence"] == pytest.approx(row.max(), abs=1e-4)
