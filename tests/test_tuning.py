"""`make tune`: what is searched, that the test is never read, and that a study depends on no clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from retrainer.errors import UserError
from retrainer.formats.dataset import Dataset
from retrainer.resolve import settle, validate
from retrainer.settings import Range
from retrainer.training.compute import resolve_compute
from retrainer.tuning.data import without_test
from retrainer.tuning.recipe import Tuned
from retrainer.tuning.space import own_values, search_space, with_values
from retrainer.tuning.trial import COMPLETE, Outcome
from tests.registered import COMPUTE
from tests.small_datasets import image_dataset

# MLflow's own queries, seen by a newer SQLAlchemy; and what it warns itself of while it is imported.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]
MLP = {
    "task": {"kind": "image_classification"},
    "backbone": {"family": "mlp", "hidden": [16]},
    "training": {"strategy": "scratch", "learning_rate": 1e-2},
}


def searched(tune: dict[str, Any], **training: Any) -> dict[str, Range]:
    sections = MLP | {"training": MLP["training"] | training, "tune": {"search": tune}}
    return search_space(validate(sections))


def test_what_is_searched_by_default_lies_around_the_recipe_s_own() -> None:
    space = searched({})
    assert list(space) == ["training.learning_rate", "training.batch_size", "training.weight_decay"]
    rate = space["training.learning_rate"]
    assert (rate.low, rate.high, rate.log) == (1e-3, 1e-1, True)
    assert space["training.batch_size"].choices == (16, 32, 64)
    fine = searched({}, strategy="full", backbone_learning_rate=1e-4)
    assert fine["training.learning_rate"].high == 4e-2, "a pretrained body bears no much higher rate"
    assert fine["training.backbone_learning_rate"].low == 2.5e-5
    assert "training.backbone_learning_rate" not in searched({}, backbone_learning_rate=1e-4)


@pytest.mark.parametrize(
    ("key", "given", "reason"),
    [
        (
            "training.learnin_rate",
            {"low": 1, "high": 2},
            r"learnin_rate: unknown setting; did you mean 'learning_r",
        ),
        (
            "backbone.hiden",
            {"choices": [[1], [2]]},
            r"backbone\.hiden: unknown setting; did you mean 'hidden'",
        ),
        ("split.test", {"low": 0.1, "high": 0.2}, "only settings of training and backbone can be searched"),
        ("training.seed", {"low": 1, "high": 9}, "cannot be searched: a seed that happens to suit"),
        ("training.learning_rate", {"low": -1, "high": 1}, "training.learning_rate: Input should be greater"),
        ("training.batch_size", {"choices": [16, 0]}, "training.batch_size: Input should be greater"),
        ("training.lora_rank", {"low": 4, "high": 8}, "is for the strategy lora"),
        ("training.epochs", {"low": 5, "high": 2}, "needed are low and high, low the smaller one"),
        ("training.epochs", {"choices": [5]}, "needed are two choices or more"),
        ("training.weight_decay", {"low": 0, "high": 1, "log": True}, "with log it must be above 0"),
        ("training.epochs", {"lo": 5}, r"unknown setting tune\.search\.training\.epochs\.lo"),
    ],
)
def test_what_cannot_be_searched_is_refused_by_name(key: str, given: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason) as error:
        searched({key: given})
    assert f"tune.search.{key}" in str(error.value) and "\n" not in str(error.value)


def test_values_of_a_trial_stand_in_its_sections() -> None:
    space = searched(
        {"backbone.hidden": {"choices": [[16], [8, 8]]}, "training.dropout": {"low": 0, "high": 0.5}}
    )
    sections = MLP | {"training": {"dropout": 0.2}}
    assert own_values(space, sections) == {"backbone.hidden": [16], "training.dropout": 0.2}
    assert own_values(space, sections | {"training": {"dropout": 0.6}}) is None
    made = with_values(sections, {"backbone.hidden": [8, 8]})
    assert made["backbone"] == {"family": "mlp", "hidden": [8, 8]} and sections["backbone"]["hidden"] == [16]


def test_trials_have_no_row_of_the_test(tmp_path: Path) -> None:
    """Not even a file of it: they train where there is none."""
    dataset = image_dataset(tmp_path / "dataset", {"train": 8, "validation": 4, "test": 4})
    for file in dataset.glob("test-*"):
        file.unlink()
    seen = Dataset(without_test(dataset, tmp_path / "seen"))
    assert seen.manifest["rows"] == {"train": 8, "validation": 4}
    assert len(seen.split("train")) == 8 and len(seen.split("validation")) == 4
    assert {path.name.partition("-")[0] for path in seen.path.glob("*.parquet")} == {"train", "validation"}
    with pytest.raises(UserError, match="has no split 'test'"):
        seen.split("test")
    bare = image_dataset(tmp_path / "bare", {"train": 8, "test": 4})
    with pytest.raises(UserError, match="no validation rows to compare trials by"):
        without_test(bare, tmp_path / "none")


# --- the study ------------------------------------------------------------------------------------------

EPOCHS = 3
SPACE = {
    "training.learning_rate": Range(low=1e-3, high=1e-1, log=True),
    "training.batch_size": Range(choices=(16, 32)),
}


FIRST = {"training.learning_rate": 0.01, "training.batch_size": 32}


def study(folder: Path, jobs: int = 1, first: dict[str, Any] = FIRST) -> Any:
    pytest.importorskip("optuna")
    from retrainer.tuning.study import Plan, Study

    return Study(Plan("d" * 64, SPACE, frozenset(), first, 0, jobs, EPOCHS, False, True), folder)


def loss_of(values: dict[str, Any], epoch: int) -> float:
    """The best rate is 0.05, and figures fall from epoch to epoch."""
    return abs(values["training.learning_rate"] - 0.05) + 1 / epoch + values["training.batch_size"] / 1000


def epochs_of(found: Any, trial: Any, until: int = EPOCHS) -> Iterator[bool]:
    for epoch in range(1, until + 1):
        ends = found.should_prune(trial, epoch, loss_of(trial.values, epoch))
        yield ends
        if ends:
            return


def run_trials(found: Any, numbers: range) -> None:
    for number in numbers:
        trial = found.suggest(number)
        ended = any(epochs_of(found, trial))
        value = loss_of(trial.values, EPOCHS)
        found.finish(trial, Outcome("pruned", note="worse") if ended else Outcome(COMPLETE, value))


def told(found: Any) -> list[tuple[Any, ...]]:
    return [
        (one.number, one.state.name, one.value, one.params, one.intermediate_values) for one in found.trials()
    ]


def test_a_study_that_was_killed_goes_on_with_the_trials_it_would_have_had(tmp_path: Path) -> None:
    whole = study(tmp_path / "whole")
    run_trials(whole, range(10))
    begun = study(tmp_path / "killed")
    run_trials(begun, range(8))
    list(epochs_of(begun, begun.suggest(8), until=1))  # and here it was killed, in the middle of a trial
    again = study(tmp_path / "killed")
    assert again.finished() == set(range(8)) and not again.ready(9)
    run_trials(again, range(8, 10))
    assert told(again) == told(whole)
    own = {"training.learning_rate": 0.0123456, "training.batch_size": 32}
    assert study(tmp_path / "own", first=own).suggest(0).values == own, "no digit of the recipe's own is lost"
    states = {one.state.name for one in whole.trials()}
    assert states == {"COMPLETE", "PRUNED"}, "worse ones end early"
    assert whole.trials()[0].params == {"training.learning_rate": 0.01, "training.batch_size": "32"}
    best = whole.best()
    assert best.value == min(one.value for one in whole.trials() if one.state.name == "COMPLETE")


def test_trials_side_by_side_depend_on_no_clock(tmp_path: Path) -> None:
    """Of two at a time, whichever ends first: each sees those that lie two before it, and no other."""

    def finish(found: Any, trial: Any) -> None:
        list(epochs_of(found, trial))
        found.finish(trial, Outcome(COMPLETE, loss_of(trial.values, EPOCHS)))

    def in_order(folder: str, ended: tuple[int, ...]) -> Any:
        """`ended`: of the two that run, those that end before the next one begins, in this order."""
        found, running = study(tmp_path / folder, jobs=2), []
        for each in range(10):
            if len(running) == 2:
                for place in ended:
                    finish(found, running.pop(place))
            assert found.ready(each)
            running.append(found.suggest(each))
        for trial in running:
            finish(found, trial)
        return found

    assert told(in_order("one", (0,))) == told(in_order("pairs", (1, 0)))


# --- the recipe -----------------------------------------------------------------------------------------

RECIPE = """\
# Of photographs.
source: data/photos
task: image_classification   # in one word
backbone: {family: mlp, hidden: [16]}
training:
  learning_rate: 1e-2   # found by hand
  epochs: 20
"""


def project(folder: Path, **recipes: str) -> Path:
    (folder / "recipes").mkdir()
    (folder / "params.yaml").write_text("registry: {name: base}\ntraining: {epochs: 3}\n")
    for name, text in recipes.items():
        (folder / "recipes" / f"{name}.yaml").write_text(text)
    return folder


VALUES = {"training.learning_rate": 0.0342, "training.batch_size": 64, "backbone.hidden": [8, 8]}


def test_the_best_settings_become_a_recipe_with_the_same_comments(tmp_path: Path) -> None:
    root = project(tmp_path, photos=RECIPE)
    made = Tuned.of("photos", VALUES, ["training.epochs=5", "tune.trials=9"], root)
    assert made.write(force=False) == ["recipes/photos-tuned.yaml written"]
    text = made.path.read_text()
    assert "# Of photographs." in text and "# found by hand" in text
    assert "-  learning_rate: 1e-2   # found by hand" in made.difference()
    assert yaml.safe_load(text)["training"] == {"learning_rate": 0.0342, "epochs": 5, "batch_size": 64}
    own, tuned = settle("photos", [], root)[1], settle("photos-tuned", [], root)[1]
    assert tuned["registry"].plain()["name"] == "photos", "the gate compares it with the recipe's champion"
    differing = {
        f"{name}.{key}"
        for name, section in own.items()
        for key, value in section.plain().items()
        if tuned[name].plain()[key] != value
    }
    assert differing == {*VALUES, "training.epochs"}


def test_a_recipe_that_is_there_stays_unless_it_is_forced(tmp_path: Path) -> None:
    root = project(tmp_path, **{"photos": RECIPE, "photos-tuned": "# mine\n"})
    made = Tuned.of("photos", VALUES, [], root)
    with pytest.raises(UserError, match=r"photos-tuned\.yaml is there and says something else; FORCE=1"):
        made.write(force=False)
    assert made.path.read_text() == "# mine\n"
    lines = made.write(force=True)
    assert lines[0].startswith("recipes/photos-tuned.yaml replaced") and "-# mine" in lines
    assert made.write(force=False) == ["recipes/photos-tuned.yaml says so already"]


def test_the_recipe_of_params_yaml_gets_a_file_of_what_was_found(tmp_path: Path) -> None:
    root = project(tmp_path)
    made = Tuned.of("base", {"training.learning_rate": 0.0342}, [], root)
    made.write(force=False)
    assert yaml.safe_load(made.path.read_text()) == {
        "training": {"learning_rate": 0.0342},
        "registry": {"name": "base"},
    }
    assert settle("base-tuned", [], root)[1]["training"].plain()["epochs"] == 3


def test_a_source_in_one_word_stays_what_it_is(tmp_path: Path) -> None:
    """`source: digits` names a kind, and no path."""
    root = project(tmp_path, photos="source: digits\ntask: image_classification\n")
    made = Tuned.of("photos", {"training.learning_rate": 0.0342}, ["source.rows=7"], root)
    made.write(force=False)
    assert yaml.safe_load(made.path.read_text())["source"] == {"kind": "digits", "rows": 7}


# --- whole ----------------------------------------------------------------------------------------------


def test_what_cannot_be_tuned_is_refused(tmp_path: Path) -> None:
    from retrainer.tuning.command import tune

    for training, reason in (
        ({"command": "python mine.py"}, "your own trainer tells no figures"),
        ({"privacy": {"epsilon": 3.0}, "strategy": "scratch"}, "every trial would spend"),
    ):
        sections = {name: section.plain() for name, section in validate(MLP | {"training": training}).items()}
        with pytest.raises(UserError, match=reason):
            tune(sections, tmp_path, print)


@pytest.mark.usefixtures("torch_settings_restored")
def test_a_trial_s_process_ends_with_the_figure_of_the_kept_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Path
) -> None:
    """In this process: the training itself, its run in MLflow, and an early end, on data without a test."""
    import mlflow

    from retrainer.services.tuning_run import TuningRun
    from retrainer.tuning.trial import Job, train_trial
    from tests.champions import own_environment

    own_environment(monkeypatch, tmp_path)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    dataset = without_test(digits, tmp_path / "seen")
    quick = {"strategy": "scratch", "epochs": 2, "learning_rate": 0.01}
    parts = validate(
        MLP | {"task": {"kind": "image_classification", "size": 8, "channels": 1}, "training": quick}
    )
    sections = {name: parts[name].plain() for name in ("task", "backbone", "training")}
    sections["compute"] = resolve_compute(COMPUTE).plain()
    parent = TuningRun("", sections, dataset)
    seen: list[float] = []

    def ends(_: int, figures: Any) -> bool:
        seen.append(figures["validation_loss"])
        return len(seen) == 3

    job = Job(0, sections, dataset, None, "validation_loss", parent.run_id)
    done, ended = train_trial(job, ends), train_trial(job, ends)
    assert (done.state, done.value) == (COMPLETE, min(seen[:2]))
    assert (ended.state, ended.value, ended.note) == ("pruned", None, "after epoch 1")
    assert seen[2] == seen[0], "the same settings give the same figures"
    together = sections | {"training": sections["training"] | {"optimizer": "adamw", "momentum": 0.8}}
    refused = train_trial(Job(1, together, dataset, None, "validation_loss", parent.run_id), ends)
    assert refused.state == "failed" and "momentum" in refused.note, "it ends that trial alone"
    parent.finish({"tune.trials": 2.0}, {})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    table = mlflow.search_runs(search_all_experiments=True, filter_string="tags.`retrainer.step` = 'trial'")
    assert set(table["tags.mlflow.parentRunId"]) == {parent.run_id}
    assert set(table["tags.retrainer.state"]) == {"complete", "pruned"} and set(table["status"]) == {
        "FINISHED"
    }
    assert table["params.training.learning_rate"].notna().all()
    assert table["metrics.validation_loss"].notna().all()
    assert not list((tmp_path / ".checkpoints").glob("*"))
