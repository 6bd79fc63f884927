"""Resolve: one canonical file, nothing left that can move, mistakes named with their cure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.smoke import smoke
from retrainer.code.digests import project_code
from retrainer.code.own import command_digest
from retrainer.errors import SettingError, UserError
from retrainer.layers import merge
from retrainer.resolve import known_recipes, parse_override, resolve
from retrainer.services.address import WEBHOOK
from tests.conftest import ROOT


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "data.csv").write_text("text,label\ngood,yes\nbad,no\n")
    (tmp_path / "params.yaml").write_text(
        f"registry: {{name: base}}\nsource: {tmp_path / 'data.csv'}\n"
        "backbone: {family: mlp}\ntraining: {strategy: scratch, learning_rate: 1e-3}\n"
    )
    (tmp_path / "recipes" / "other.yaml").write_text("registry: {name: other}\ntraining: {epochs: 9}\n")
    return tmp_path


def test_recipe_overrides_params_and_both_stay_as_they_were(project: Path) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*.yaml")}
    settled = resolve("other", ["training.seed=5"], project)
    assert (
        settled.settings["training"] | {"epochs": 9, "seed": 5, "learning_rate": 1e-3}
        == settled.settings["training"]
    )
    assert json.loads((project / ".run/other/settings.json").read_text()) == settled.settings
    assert {path: path.read_bytes() for path in project.rglob("*.yaml")} == before


def test_a_recipes_model_goes_by_its_own_name(project: Path) -> None:
    (project / "recipes" / "mine.yaml").write_text(f"source: {project / 'data.csv'}\n")
    assert resolve("mine", [], project).settings["registry"]["name"] == "mine"


def test_the_default_recipe_goes_by_its_registered_name(project: Path) -> None:
    assert resolve(None, [], project).recipe == resolve("base", [], project).recipe == "base"
    assert known_recipes(project, "base") == ["base", "other"]


def test_mutable_references_are_pinned_to_digests(project: Path) -> None:
    first = resolve(None, [], project).settings
    assert len(first["source"]["digest"]) == 64
    assert first["compute"]["device"] in ("cpu", "cuda")
    assert first["compute"]["threads"] >= 1
    assert "torch" in first["compute"]["packages"]
    (project / "data.csv").write_text("text,label\ngood,yes\nbad,no\nfine,yes\n")
    assert resolve(None, [], project).settings["source"]["digest"] != first["source"]["digest"]


def test_a_value_that_is_no_yaml_is_told_in_one_line(project: Path) -> None:
    with pytest.raises(UserError, match=r"SET=task\.kind=\[a: not valid YAML"):
        resolve(None, ["task.kind=[a"], project)


def test_resolve_writes_the_digests_into_the_settings(project: Path) -> None:
    (project / "my_train.py").write_text("first")
    settings = resolve(None, ["training.command=python my_train.py"], project).settings
    assert settings["training"]["code_digest"] == command_digest(
        "python my_train.py", project, project_code(project)
    )


def test_an_unchanged_file_is_left_alone(project: Path) -> None:
    resolve(None, [], project)
    before = (project / ".run/base/settings.json").stat().st_mtime_ns
    resolve(None, [], project)
    assert (project / ".run/base/settings.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("traning: {epochs: 1}", "unknown section 'traning'; did you mean 'training'"),
        ("training: {epochs: many}", r"setting training\.epochs"),
        ("training: 5", "section 'training' must hold settings"),
        ("- a list", "expected sections"),
        ("a: [", "not valid YAML"),
        (
            "task: image_clasification",
            r"task\.kind: no 'image_clasification'.*did you mean 'image_classification'",
        ),
        ("backbone: {family: mlp, hiden: [3]}", r"unknown setting backbone\.hiden; did you mean 'hidden'"),
        (
            "task: plugins.nowhere",
            r"task\.kind: no module plugins\.nowhere; expected the file plugins/nowhere\.py",
        ),
        ("source: {path: missing.csv}", r"missing\.csv"),
        ("source: {kind: nothing}", "nothing"),
        (
            "evaluation: {slices: [class, regoin]}\nsource: {path: data.csv, metadata: [region]}",
            r"evaluation\.slices: there is no slice 'regoin'; did you mean 'region'.*source\.metadata",
        ),
        (
            "gate: {slice_floors: {text_lenght: 0.8}}",
            r"gate\.slice_floors: there is no slice 'text_lenght'; did you mean 'text_length'",
        ),
        (
            "task: {kind: text_classification}\nevaluation: {slices: [brightness]}",  # texts have none
            r"evaluation\.slices: there is no slice 'brightness'.*there are class, text_length, time, group",
        ),
    ],
)
def test_mistakes_are_named(project: Path, params: str, message: str) -> None:
    (project / "recipes" / "wrong.yaml").write_text(params + "\n")
    with pytest.raises(UserError, match=message):
        resolve("wrong", [], project)


def test_every_slice_there_is_is_taken(project: Path) -> None:
    path = project / "regions.csv"
    path.write_text("text,label,region\ngood,yes,north\nbad,no,south\n")
    (project / "recipes" / "sliced.yaml").write_text(
        "evaluation: {slices: [class, group, time, text_length, region]}\n"
        f"gate: {{slice_floors: {{region: 0.8}}}}\nsource: {{path: {path}, metadata: [region]}}\n"
    )
    assert resolve("sliced", [], project).settings["gate"]["slice_floors"] == {"region": 0.8}


def test_a_file_that_bears_the_default_recipes_name_is_not_passed_over(project: Path) -> None:
    (project / "recipes" / "base.yaml").write_text("training: {epochs: 9}\n")
    with pytest.raises(SettingError, match=r"recipes/base\.yaml: base is the recipe of params\.yaml itself"):
        resolve(None, [], project)


def test_a_metric_of_another_task_is_refused_before_any_training(project: Path) -> None:
    with pytest.raises(
        SettingError, match=r"gate\.metric: bleu compares target_text, which .* set one of acc"
    ):
        resolve(None, ["gate.metric=bleu"], project)
    assert resolve(None, ["gate.metric=macro_f1"], project).settings["gate"]["metric"] == "macro_f1"


def test_a_missing_recipe_names_the_nearest(project: Path) -> None:
    with pytest.raises(
        UserError, match=r"RECIPE=othr: there is no .*recipes/othr.yaml; did you mean 'other'"
    ):
        resolve("othr", [], project)


@pytest.mark.parametrize("name", ["../other", "/tmp/other", "..", "a/b", "-x", "a b", "x'"])
def test_a_path_is_no_recipe(project: Path, name: str) -> None:
    """Directories are made and emptied by a recipe's name."""
    kept = project.parent / "other" / "kept"
    kept.parent.mkdir(exist_ok=True)
    kept.touch()
    (project / ".run" / "smoke").mkdir(parents=True)
    for command in (lambda: resolve(name, [], project), lambda: smoke(name, [], project)):
        with pytest.raises(SettingError, match=r"^RECIPE=.*: needed is the name of a file of recipes/"):
            command()
    assert kept.exists() and (project / "params.yaml").exists()


@pytest.mark.parametrize("text", ["epochs=3", "training.epochs", "nope.epochs=3", "=3", "training.=3"])
def test_a_malformed_override_shows_the_form(text: str) -> None:
    with pytest.raises(UserError, match=r"expected section\.key=value"):
        parse_override(text)


def test_another_family_does_not_inherit_the_first_ones_keys() -> None:
    base = {"backbone": {"family": "transformers", "weights": "package:x"}, "training": {"epochs": 3}}
    merged = merge(base, {"backbone": {"family": "mlp"}, "training": {"seed": 1}})
    assert merged == {"backbone": {"family": "mlp"}, "training": {"epochs": 3, "seed": 1}}


@pytest.mark.parametrize(("recipe", "own"), [(None, False), ("digits-mlp", False), (None, True)])
def test_resolve_imports_nothing_heavy(recipe: str | None, own: bool, tmp_path: Path) -> None:
    """An unchanged `make pipeline` does it each time, and remembers the files that it has seen."""
    (tmp_path / "own.csv").write_text("text,label\na,b\n")
    given = ["source.kind=csv", f"source.path={tmp_path}/own.csv"] if own else []
    code = (
        "import sys; from retrainer.resolve import resolve; from pathlib import Path;"
        f"resolve({recipe!r}, {given!r}, Path(), Path({str(tmp_path)!r}));"
        "from retrainer.notify.local import Notifier; Notifier('any').unchanged();"
        "heavy = 'torch mlflow transformers pandas sklearn boto3 numpy pyarrow ssl http.client'.split();"
        "print([m for m in heavy if m in sys.modules])"
    )
    resolve(recipe, given, ROOT, tmp_path)
    alone = {name: value for name, value in os.environ.items() if name != WEBHOOK}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=alone, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
