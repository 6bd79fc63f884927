"""Whether a run trains: by policy, with a real registry whose champion was registered like any other."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.decide import decide as step
from retrainer.errors import UserError
from retrainer.registry.register import register_model
from retrainer.retraining.decide import Request, decide, plain
from retrainer.retraining.summary import WIDTH, decision_table, page
from retrainer.services import lineage, lookup
from retrainer.services.connection import client, experiment_id
from retrainer.settings import Backbone, Registry, Retrain, Task, Training
from tests.champions import move_files, own_environment, without_serving_check
from tests.html_page import Page
from tests.mlflow_server import running_server
from tests.raw_rows import run
from tests.registered import IMAGES, MLP, judged, untrained_model

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]

TRAINING = Training(strategy="scratch", seed=0)
DRIFT = Retrain(policy="drift", min_new_rows=50)
Rows = list[dict[str, Any]]


def images(rows: int, seed: int, light: float = 0.0, labels: str = "abc") -> Rows:
    draw = np.random.default_rng(seed)
    found = []
    for row in range(rows):
        pixels = draw.normal(110 + draw.normal(0, 25) + light, 40, (8, 8)).clip(0, 255)
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
        image = {"bytes": buffer.getvalue(), "path": None}
        found.append({"image": image, "labels": [labels[row % len(labels)]]})
    return found


FIRST = images(300, seed=0)


_SCRATCH = TemporaryDirectory()
PREPROCESSED = Path(_SCRATCH.name)


@dataclass(frozen=True)
class Project:
    folder: Path

    def dataset(self, rows: Rows) -> Path:
        """The rows preprocessed, once for all tests that ask for the same."""
        data = self.folder / "data"
        kept = PREPROCESSED / hashlib.sha256(repr(rows).encode()).hexdigest()
        if not kept.exists():
            run(kept, rows, task=IMAGES)
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(kept, data)
        return data / "out"

    def asked(self, rows: Rows, retrain: Retrain, training: Training = TRAINING) -> Request:
        sections = {"task": IMAGES, "backbone": MLP, "training": training}
        plain_sections = {name: section.plain() for name, section in sections.items()}
        return Request("net", self.dataset(rows), plain_sections, retrain)

    def decided(self, rows: Rows, retrain: Retrain, training: Training = TRAINING) -> dict[str, Any]:
        asked = self.asked(rows, retrain, training)
        found = plain(asked, decide(asked))
        assert all(len(line) <= WIDTH for line in decision_table(found).splitlines())
        return found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry whose champion, version 1, was trained on FIRST."""
    folder = tmp_path_factory.mktemp("decide")
    with pytest.MonkeyPatch.context() as patch:
        own_environment(patch, folder)
        without_serving_check(patch)
        dataset = Project(folder).dataset(FIRST)
        model = untrained_model(folder / "model", dataset)
        report = judged(folder / "report", dataset, model, None)
        assert register_model(model, report, folder / "made", Registry(name="net"))["alias"] == "champion"
    return folder


@pytest.fixture
def project(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    own_environment(monkeypatch, tmp_path)
    shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    move_files(tmp_path / "mlflow.db", base, tmp_path)
    return Project(tmp_path)


def test_the_policy_always_trains_without_asking_the_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    found = Project(tmp_path).decided(images(60, 1), Retrain())
    assert (found["choice"], found["reason"]) == ("train", "always")


def test_without_a_champion_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_environment(monkeypatch, tmp_path)
    found = Project(tmp_path).decided(images(60, 1), DRIFT)
    assert (found["choice"], found["reason"], found["champion"]) == ("train", "no-champion", None)


@pytest.mark.parametrize("policy", ["new-data", "drift"])
def test_the_same_rows_with_the_same_settings_are_nothing_new(project: Project, policy: Any) -> None:
    found = project.decided(list(reversed(FIRST)), Retrain(policy=policy))
    assert (found["choice"], found["reason"]) == ("stop", "nothing-new")
    assert "version 1 was trained on exactly these rows" in found["why"]
    assert found["champion"]["dataset_sha256"] == found["dataset_sha256"]


@pytest.mark.parametrize("policy", ["new-data", "drift"])
def test_other_settings_are_trained_and_named(project: Project, policy: Any) -> None:
    found = project.decided(FIRST, Retrain(policy=policy), Training(strategy="scratch", seed=0, epochs=7))
    assert (found["choice"], found["reason"]) == ("train", "new-settings")
    assert found["settings"] == [f"training.epochs: {Training().epochs} → 7"]
    assert found["settings"][0] in found["why"]


def test_new_rows_are_counted_and_trained(project: Project) -> None:
    found = project.decided([*FIRST[20:], *images(30, 5)], Retrain(policy="new-data"))
    assert (found["choice"], found["reason"]) == ("train", "new-data")
    assert found["rows"] == {"new": 30, "gone": 20} and not found["tests"]


def test_new_rows_of_the_same_kind_are_no_drift(project: Project) -> None:
    found = project.decided([*FIRST, *images(150, 5)], DRIFT)
    assert (found["choice"], found["reason"]) == ("stop", "no-drift")
    assert found["rows"]["new"] == found["rows"]["independent"] == 150
    assert found["rows"]["reference"] == found["rows"]["compared"] == 300 and not found["rows"]["relabelled"]
    assert all(test["adjusted"] > 0.05 for test in found["tests"].values())


@pytest.mark.parametrize(
    ("rows", "test", "most"),
    [
        (images(150, 5, light=20), "inputs", {"measure": "brightness"}),
        (images(150, 5, labels="ab"), "labels", {"label": "c", "found": 0}),
        (images(150, 5, labels="abcd"), "labels", {"label": "d"}),
    ],
)
def test_drift_is_found_and_named(project: Project, rows: Rows, test: str, most: dict[str, Any]) -> None:
    found = project.decided([*FIRST, *rows], DRIFT)
    assert (found["choice"], found["reason"]) == ("train", "drift")
    assert found["tests"][test]["adjusted"] <= 0.05 and found["why"].startswith(f"{test} drifted")
    assert most.items() <= found["tests"][test]["largest"][0].items()


def test_drift_is_found_without_any_row_of_the_champions(project: Project) -> None:
    """A window that moves on: none of the champion's rows is left."""
    found = project.decided(images(150, 5, light=20), DRIFT)
    assert found["reason"] == "drift" and found["rows"]["gone"] == 300


def test_few_new_rows_wait_for_more(project: Project) -> None:
    found = project.decided([*FIRST, *images(49, 5, light=90)], DRIFT)
    assert (found["choice"], found["reason"]) == ("stop", "too-few-rows")
    assert "49" in found["why"] and "retrain.min_new_rows" in found["why"]


def test_growth_trains_where_nothing_drifts(project: Project) -> None:
    grown = DRIFT.model_copy(update={"growth": 0.5})
    found = project.decided([*FIRST, *images(150, 5)], grown)
    assert (found["choice"], found["reason"]) == ("train", "grown")
    assert project.decided([*FIRST, *images(149, 5)], grown)["reason"] == "no-drift"


@pytest.mark.parametrize(("changed", "reason"), [(3, "too-few-rows"), (4, "relabelled")])
def test_corrected_labels_train(project: Project, changed: int, reason: str) -> None:
    other = [{**row, "labels": ["c" if row["labels"] == ["a"] else "a"]} for row in FIRST[:changed]]
    found = project.decided([*other, *FIRST[changed:]], DRIFT)
    assert (found["reason"], found["rows"]["relabelled"]) == (reason, changed)


def remove_artifacts(project: Project, pattern: str) -> None:
    gone = list(project.folder.glob(f"mlartifacts/**/{pattern}"))
    assert gone
    for path in gone:
        path.unlink()


def test_a_champion_without_statistics_is_trained_anew(project: Project) -> None:
    remove_artifacts(project, "profile.parquet")
    found = project.decided([*FIRST, *images(150, 5)], DRIFT)
    assert (found["choice"], found["reason"]) == ("train", "no-statistics")
    assert "carries no statistics" in found["why"]


def test_a_champion_whose_files_are_gone_or_altered_is_told(project: Project) -> None:
    rows = [*FIRST, *images(150, 5)]
    (keys,) = project.folder.glob("mlartifacts/**/artifacts/model/row_keys.parquet")
    keys.write_bytes(keys.read_bytes() + b" ")
    with pytest.raises(UserError, match=r"row_keys\.parquet was altered"):
        project.decided(rows, DRIFT)
    (keys.parent / "manifest.json").unlink()
    with pytest.raises(UserError, match="files are gone"):
        project.decided(rows, DRIFT)


def test_a_version_without_a_settings_digest_counts_as_of_other_settings(project: Project) -> None:
    client().delete_model_version_tag("net", "1", "training_sha256")
    found = project.decided(FIRST, DRIFT)
    assert (found["reason"], found["settings"]) == ("new-settings", [])


def test_changed_code_is_mentioned_but_is_no_reason_to_train(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    client().set_model_version_tag("net", "1", "git_commit", "abc")
    monkeypatch.setattr(lineage, "of_process", lambda: {"git_commit": "def"})
    found = project.decided(FIRST, DRIFT)
    assert found["reason"] == "nothing-new" and found["code"] == {"then": "abc", "now": "def"}
    assert "the code is def now" in decision_table(found)


@pytest.fixture
def stepped(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[[Rows], dict[str, Any]]:
    """The step itself; returns its metadata."""
    monkeypatch.setattr(lineage, "of_process", lambda: {"kfp_run_id": "run-7"})

    def call(rows: Rows) -> dict[str, Any]:
        out, html = project.folder / "decision", project.folder / "decision.html"
        sections = (Task.model_validate(IMAGES.plain()), Backbone.model_validate(MLP.plain()), TRAINING)
        told = step(project.dataset(rows), out, html, *sections, DRIFT, Registry(name="net"))
        assert not Page(html.read_text()).open
        return told | {"content": json.loads((out / "decision.json").read_text())}

    return call


def test_the_step_tells_mlflow(stepped: Callable[[Rows], dict[str, Any]]) -> None:
    told = stepped([*FIRST, *images(150, 5, light=20)])
    assert told["decision"]["choice"] == "train" and told["html"] == {}
    stopped = stepped(FIRST)
    assert stopped["decision"]["choice"] == "stop" and stopped["content"]["reason"] == "nothing-new"
    mlflow = client()
    found = mlflow.search_runs([experiment_id(mlflow)], "tags.kfp_run_id = 'run-7'")
    tags = [(run.data.tags["retrainer.decision"], run.data.tags["retrainer.reason"]) for run in found]
    assert sorted(tags) == [("nothing-new", "nothing-new"), ("train", "drift")]
    (drifted,) = (run for run in found if run.data.tags["retrainer.decision"] == "train")
    assert drifted.data.metrics["inputs.adjusted"] <= 0.05 and drifted.data.metrics["rows.new"] == 150
    assert [file.path for file in mlflow.list_artifacts(drifted.info.run_id)] == ["decision.json"]
    assert lookup.state("net")["champion"] == "1"


def test_what_a_page_shows_is_escaped(project: Project) -> None:
    found = project.decided(FIRST, DRIFT) | {"why": "<script>alert(1)</script>"}
    assert "<script>" not in page(found)


@pytest.mark.release
def test_a_server_is_asked_for_two_small_files_alone(
    project: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the champion's model its manifest and row keys are fetched, not its weights."""
    without_serving_check(monkeypatch)
    server = tmp_path_factory.mktemp("server")
    with running_server(server) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        folder = project.folder
        made = register_model(folder / "model", folder / "report", folder / "there", Registry(name="net"))
        assert made["alias"] == "champion"
        (weights,) = server.glob("files/**/model.safetensors")
        weights.unlink()
        assert project.decided(FIRST, DRIFT)["reason"] == "nothing-new"
        found = project.decided([*FIRST, *images(150, 5, light=20)], DRIFT)
        assert found["reason"] == "drift" and found["rows"]["new"] == 150
