"""The MLflow run of a training: complete when all goes well, and never in the way of the model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from retrainer.errors import UserError
from retrainer.formats.dataset import Dataset
from retrainer.services import lineage, training_run
from retrainer.services.connection import client, experiment_id
from retrainer.services.training_run import TrainRun
from tests.conftest import ROOT
from tests.mlflow_server import free_port
from tests.registered import image_dataset

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*")

SECTIONS = {
    "training": {"epochs": 2, "learning_rate": 1e-3},
    "backbone": {"weights": "https://ann:swordfish@host/weights", "hidden": [1, 2]},
}
SHA = "c" * 64


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset in an empty project."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "RETRAINER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return image_dataset(tmp_path / "dataset")


def until(true: Callable[[], object]) -> None:
    for _ in range(1200):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("not within a minute")


def until_open(run: TrainRun) -> str:
    until(lambda: run.run_id)
    return str(run.run_id)


def test_a_run_tells_settings_data_and_figures(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with TrainRun(SECTIONS, dataset) as run:
        run.epoch(1, {"train_loss": 0.9, "validation_accuracy": 0.5})
        run.epoch(2, {"train_loss": 0.4})
        run.finish(SHA)
    assert run.run_id
    mlflow = client()
    found = mlflow.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {
        "training.epochs": "2",
        "training.learning_rate": "0.001",
        "backbone.weights": "https://host/weights",
        "backbone.hidden": "[1, 2]",
    }
    losses = mlflow.get_metric_history(run.run_id, "train_loss")
    assert [(point.step, point.value) for point in losses] == [(1, 0.9), (2, 0.4)]
    content = Dataset(dataset).content_sha256
    assert found.data.tags["dataset_sha256"] == content
    assert found.data.tags["model_sha256"] == SHA
    assert len(found.data.tags["settings_sha256"]) == 64
    logged = found.inputs.dataset_inputs[0].dataset
    assert logged.digest == content[:36]
    assert json.loads(logged.profile)["rows"] == {"train": 12, "test": 12}
    assert b"swordfish" not in Path("mlflow.db").read_bytes()
    assert capsys.readouterr() == ("", "")


SAMPLED = {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"}


def test_a_run_samples_the_system(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_run, "_SYSTEM_SAMPLE_SECONDS", 0.05)
    with TrainRun(SECTIONS, dataset) as run:
        run_id = until_open(run)
        until(lambda: client().get_run(run_id).data.metrics.keys() >= SAMPLED)
        assert client().get_run(run_id).info.status == "RUNNING", "and not only at its end"


def test_even_a_short_run_has_a_sample_of_the_system(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_run, "_SYSTEM_SAMPLE_SECONDS", 600.0)
    with TrainRun(SECTIONS, dataset) as run:
        pass
    assert client().get_run(str(run.run_id)).data.metrics.keys() >= SAMPLED


def test_a_failed_training_is_a_failed_run(dataset: Path) -> None:
    run = TrainRun(SECTIONS, dataset)
    with pytest.raises(ZeroDivisionError), run:
        run.epoch(1, {"train_loss": 1 / 0})
    assert client().get_run(str(run.run_id)).info.status == "FAILED"


@pytest.mark.usefixtures("printed_messages")
def test_what_goes_wrong_on_the_way_is_one_line(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with TrainRun(SECTIONS, dataset) as run:
        until_open(run)
        Path("mlflow.db").write_bytes(b"no database any more" * 1000)
        run.epoch(1, {"train_loss": 0.9})
        run.finish(SHA)
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("train:")]
    assert len(told) == 1
    assert told[0].endswith("the model is not affected")


def test_a_server_that_is_not_there_stops_before_training(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI=http"), TrainRun(SECTIONS, dataset):
        raise AssertionError("training began")


@pytest.mark.slow
def test_a_killed_run_is_closed_by_the_next(dataset: Path) -> None:
    code = (
        "import os, signal, time; from pathlib import Path\n"
        "from retrainer.services.training_run import TrainRun\n"
        "with TrainRun({}, Path('dataset')) as run:\n"
        "    while not run.run_id: time.sleep(0.01)\n"
        "    print(run.run_id, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    left = killed.stdout.strip()
    assert client().get_run(left).info.status == "RUNNING"
    with TrainRun(SECTIONS, dataset) as run:
        pass
    assert client().get_run(left).info.status == "KILLED"
    assert client().get_run(str(run.run_id)).info.status == "FINISHED"


def test_a_run_that_kubeflow_opened_is_used_and_left_open(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = client()
    given = mlflow.create_run(experiment_id(mlflow)).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    with TrainRun(SECTIONS, dataset) as run:
        run.finish(SHA)
    assert run.run_id == given
    found = mlflow.get_run(given)
    assert found.info.status == "RUNNING"
    assert found.data.tags["model_sha256"] == SHA


def test_the_experiment_is_named_by_the_environment(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = client()
    assert mlflow.get_experiment(experiment_id(mlflow)).name == "retrainer"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    mine = mlflow.get_experiment(experiment_id(mlflow))
    assert mine.name == "mine"
    assert mine.artifact_location == (dataset.parent / "mlartifacts").as_uri()
    mlflow.delete_experiment(mine.experiment_id)
    with pytest.raises(UserError, match="experiment 'mine' was deleted"):
        experiment_id(mlflow)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "7")
    assert experiment_id(mlflow) == "7"


def test_lineage_names_commit_image_and_what_dvc_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("RETRAINER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    model = Path("runs/net/model")
    assert lineage.of_model(model) == {}
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "start"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *command], check=True)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    Path("dvc.lock").write_text(
        "stages:\n"
        "  train@other:\n    outs: [{path: runs/other/model, md5: ff.dir}]\n"
        "  train@net:\n"
        "    deps: [{path: runs/net/dataset, md5: aa.dir}, {path: components/train.py, md5: bb}]\n"
        "    outs: [{path: runs/net/model, md5: cc.dir}]\n"
    )
    known = {"git_commit": commit, "dvc_model_md5": "cc.dir", "dvc_dataset_md5": "aa.dir"}
    assert lineage.of_model(model) == known
    # What runs write is no edit of the code; anything else is.
    Path("code.py").write_text("first")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run([*git, "add", "dvc.lock", "code.py"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "more"], check=True)
    with Path("dvc.lock").open("a") as lock:
        lock.write("# of this run\n")
    commit = lineage.git_commit()
    assert len(commit) == 40
    Path("recipes").mkdir()
    Path("recipes/stages.json").write_text("{}")
    assert lineage.git_commit() == commit
    Path("recipes/mine.yaml").write_text("source: data")
    assert lineage.git_commit() == f"{commit}-dirty", "a recipe that is not committed"
    Path("recipes/mine.yaml").unlink()
    Path("code.py").write_text("second")
    assert lineage.git_commit() == f"{commit}-dirty"
    monkeypatch.setenv("RETRAINER_IMAGE", "registry/image@sha256:12")
    monkeypatch.setenv("RETRAINER_KFP_RUN_ID", "34")
    monkeypatch.setenv("RETRAINER_GIT_COMMIT", "56")
    monkeypatch.setenv("RETRAINER_SCHEDULED_TIME", "2026-12-01T03:00:00Z")
    told = {"image": "registry/image@sha256:12", "kfp_run_id": "34", "git_commit": "56"}
    told |= {"scheduled_time": "2026-12-01T03:00:00Z"}
    assert lineage.of_model(model) == known | told
