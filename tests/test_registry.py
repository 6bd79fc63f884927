"""Registration: one usable version per model, proven to serve; an alias moves only by the gate's word."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.evaluate import evaluate
from retrainer.errors import UserError
from retrainer.findings import data_tags
from retrainer.formats.dataset import Dataset
from retrainer.formats.report import METRICS, SAMPLE, seal_report
from retrainer.predict import Predictor
from retrainer.registry import history
from retrainer.registry.champion import fetch_champion
from retrainer.registry.judgement_tags import description
from retrainer.registry.register import register_model
from retrainer.registry.versions import Source, _new_version
from retrainer.services import lineage, lookup, runs, tracking
from retrainer.services.address import tracking_uri
from retrainer.services.connection import client, experiment_id
from retrainer.services.readers import MODEL_SHA256
from retrainer.settings import Checks, Compute, Evaluation, Gate, Registry
from tests.champions import without_serving_check
from tests.conftest import ROOT
from tests.mlflow_server import free_port, running_server, wait_for
from tests.model_registry import running_model_registry
from tests.registered import image_dataset, judged, untrained_model

# MLflow's own queries, seen by a newer SQLAlchemy; and what it warns itself of while it is imported.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]

NET = Registry(name="net")


@dataclass(frozen=True)
class Base:
    """A project in which model `first` is champion: version 1."""

    folder: Path
    dataset: Path
    first: Path
    report: Path
    registration: dict[str, Any]


def own_environment(patch: pytest.MonkeyPatch, folder: Path) -> None:
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        patch.delenv(name)
    patch.chdir(folder)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("a base")
    with pytest.MonkeyPatch.context() as patch:
        own_environment(patch, folder)
        dataset = image_dataset(folder / "dataset")
        first = untrained_model(folder / "first", dataset)
        report = judged(folder / "report", dataset, first, fetch_champion("net", folder / "champion"))
        return Base(
            folder, dataset, first, report, register_model(first, report, folder / "registration", NET)
        )


@pytest.fixture
def project(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Base:
    """The same registry, in a copy that the test may change."""
    own_environment(monkeypatch, tmp_path)
    shutil.copy(base.folder / "mlflow.db", tmp_path)
    return Base(tmp_path, base.dataset, base.first, base.report, base.registration)


def second_model(project: Base, verdict: str | None = None) -> tuple[Path, Path]:
    """Another model and its report against the champion, with the gate's verdict or another."""
    model = untrained_model(project.folder / "second", project.dataset, seed=1)
    champion = fetch_champion("net", project.folder / "scratch")
    report = judged(project.folder / "second-report", project.dataset, model, champion)
    if verdict:
        figures = json.loads((report / METRICS).read_text())
        figures["gate"]["verdict"] = verdict
        (report / METRICS).write_text(json.dumps(figures))
        seal_report(report)
    return model, report


def versions() -> dict[str, str]:
    """Version → its verification, of all that the registry shows."""
    found = client().search_model_versions("name = 'net'")
    return {str(version.version): version.tags.get("verification", "none") for version in found}


def test_the_first_model_is_champion_and_says_where_it_came_from(project: Base) -> None:
    made = project.registration
    assert json.loads((project.first.parent / "registration/registration.json").read_text()) == made
    assert made | {"name": "net", "version": "1", "alias": "champion", "verdict": "champion"} == made
    assert made["champion"] == {"version": "1", "model_sha256": made["model_sha256"]}
    champion = lookup.by_alias("net", "champion")
    assert champion is not None
    assert champion.usable
    assert champion.model_sha256 == Predictor.load(project.first).model_sha256
    assert champion.run_id == made["train_run_id"]
    assert champion.tags["dataset_sha256"] == Dataset(project.dataset).content_sha256
    assert champion.tags["evaluation_run_id"] == made["evaluation_run_id"]
    (entry,) = history.moves("net")
    assert (entry.how, entry.before, entry.to, entry.state) == ("register", "", "1", "done")
    assert (entry.verdict, entry.why) == (
        "champion",
        "the first version, so there is none to compare it with",
    )
    assert len(champion.tags["settings_sha256"]) == 64
    assert lookup.still_holds(made)


def test_a_space_in_the_project_s_path_makes_no_directory_outside(base: Base) -> None:
    assert " " in base.folder.name
    assert not list(base.folder.parent.glob("a%20base*"))


def mlflow_table(experiment: str) -> Any:
    """As MLflow's page shows it."""
    import mlflow

    # Not by set_tracking_uri, which would hold for all later tests of this process.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", tracking_uri())
        return mlflow.search_runs([experiment])


def test_a_model_without_a_run_gets_it_back_from_its_history(project: Base) -> None:
    mlflow = client()
    train = mlflow.get_run(project.registration["train_run_id"])
    assert train.data.tags["restored"] == "true"
    assert train.data.tags["model_sha256"] == project.registration["model_sha256"]
    assert train.data.params["training.strategy"] == "scratch"
    losses = mlflow.get_metric_history(train.info.run_id, "train_loss")
    assert [(point.step, point.value) for point in losses] == [(1, 0.9), (2, 0.5)]
    evaluation = mlflow.get_run(project.registration["evaluation_run_id"])
    assert evaluation.data.tags["mlflow.parentRunId"] == train.info.run_id
    assert 0 <= evaluation.data.metrics["metrics.accuracy.low"] <= evaluation.data.metrics["metrics.accuracy"]
    table = mlflow_table(experiment_id(mlflow))
    assert set(table["tags.mlflow.runName"]) == {
        f"net scratch, version 1, {step}" for step in ("train", "evaluate")
    }
    for column in ("params.training.learning_rate", "params.backbone.hidden", "metrics.metrics.accuracy"):
        assert table[column].notna().all(), f"{column}: each row of MLflow's table has settings and figures"
    assert {file.path for file in mlflow.list_artifacts(evaluation.info.run_id)} == {
        "report.html",
        "model_card.md",
        METRICS,
    }


@pytest.mark.slow
def test_a_version_names_the_commit_that_trained_it_not_the_one_that_registers_it(project: Base) -> None:
    model, report = second_model(project)
    sha256 = Predictor.load(model).model_sha256
    mlflow = client()
    tags = {"model_sha256": sha256, runs.STEP: "train", "git_commit": "the-one-that-trained"}
    run_id = runs.create_run(mlflow, experiment_id(mlflow), "train", runs.now(), tags)
    mlflow.set_terminated(run_id, "FINISHED")
    made = register_model(model, report, project.folder / "registration", NET)
    assert made["train_run_id"] == run_id
    version = lookup.by_version("net", str(made["version"]))
    assert version is not None and version.tags["git_commit"] == "the-one-that-trained"


def test_each_kubeflow_run_has_an_evaluation_in_mlflow_though_nothing_is_new(
    project: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By it the exit task learns what came of the run, and people when a schedule started it."""

    def evaluation_of(run: str, folder: str) -> str:
        monkeypatch.setenv("RUN_OF_THE_TEST", run)
        made = register_model(project.first, project.report, project.folder / folder, NET)
        assert (made["version"], made["alias"]) == ("1", "champion")
        assert client().get_run(made["evaluation_run_id"]).data.tags["kfp_run_id"] == run
        return str(made["evaluation_run_id"])

    # Under its own variable a pod is refused a database that is a file.
    monkeypatch.setitem(lineage._FROM_ENVIRONMENT, lineage.KFP_RUN_ID, "RUN_OF_THE_TEST")
    first = evaluation_of("run-1", "one")
    assert evaluation_of("run-1", "again") == first
    assert len({first, evaluation_of("run-2", "two"), project.registration["evaluation_run_id"]}) == 3


def registered_files(version: str) -> Path:
    found = lookup.by_version("net", version)
    assert found is not None
    return Path(urllib.parse.unquote(found.source.removeprefix("file://")))


def test_the_registered_files_are_all_that_is_needed_and_no_more(project: Base) -> None:
    folder = registered_files("1")
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    code = {name.removeprefix("code/retrainer/") for name in files if name.startswith("code/")}
    assert {"predict.py", "models/mlp.py", "tasks/image_classification.py", "formats/network.py"} <= code
    assert not {name for name in code if name.startswith(("services", "registry", "training", "evaluation"))}
    assert not {name for name in code if "transformers" in name or "text_classification" in name}
    assert not {name for name in files if "__pycache__" in name}
    for name in files:
        content = (folder / name).read_bytes()
        for place in (project.folder, folder, ROOT, Path.home()):
            assert str(place).encode() not in content, f"{name} names {place}"
    requirements = (folder / "requirements.txt").read_text().split()
    assert all("==" in line for line in requirements)
    assert {line.partition("==")[0] for line in requirements} >= {"mlflow", "numpy", "pillow", "torch"}
    assert not {line for line in requirements if line.startswith(("transformers", "torchvision", "timm"))}


def test_a_registered_model_answers_every_form_of_raw_image(
    project: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd
    from mlflow.pyfunc import load_model
    from PIL import Image

    monkeypatch.setattr(sys, "path", list(sys.path))
    served = load_model("models:/net@champion")
    table = Dataset(project.dataset).split("test")
    encoded = [image["bytes"] for image in table["image"].to_pylist()]
    arrays = np.stack([np.asarray(Image.open(pa.BufferReader(data))) for data in encoded])
    text = [base64.b64encode(data).decode() for data in encoded]
    predictor = Predictor.load(project.first)
    expected = predictor.probabilities(table)
    for given in (
        pd.DataFrame({"image": encoded}),
        pd.DataFrame({"image": text}),
        pd.DataFrame({"image": list(arrays)}),
        {"image": encoded},
        {"image": text},
        {"image": arrays},
        {"image": arrays[..., None].repeat(3, axis=-1)},
        [{"image": data} for data in encoded],
    ):
        answer = served.predict(given)
        probabilities = [[row[label] for label in predictor.labels] for row in answer["probabilities"]]
        np.testing.assert_allclose(probabilities, expected, atol=1e-6)
        assert list(answer["label"]) == [predictor.labels[best] for best in expected.argmax(axis=1)]
    assert served.input_example.shape == (2, 1)
    assert served.metadata.signature is not None
    for wrong, message in (
        (pd.DataFrame({"picture": encoded}), r"missing inputs \['image'\]"),
        ({"image": arrays / 255.0}, "row 0: expected uint8"),
        (pd.DataFrame({"image": ["no base64!"]}), "row 0: the image is neither"),
    ):
        with pytest.raises(Exception, match=message):
            served.predict(wrong)


def test_registering_again_changes_nothing(project: Base) -> None:
    champion = fetch_champion("net", project.folder / "scratch")
    report = judged(project.folder / "report", project.dataset, project.first, champion)
    made = register_model(project.first, report, project.folder / "registration", NET)
    unchanged = ("name", "version", "alias", "model_sha256", "verdict", "champion", "train_run_id")
    assert {key: made[key] for key in unchanged} == {key: project.registration[key] for key in unchanged}
    assert versions() == {"1": "passed"}


def test_a_verdict_against_another_champion_is_refused(project: Base) -> None:
    model = untrained_model(project.folder / "second", project.dataset, seed=1)
    report = judged(project.folder / "second-report", project.dataset, model, champion=None)
    with pytest.raises(
        UserError, match=r"champion of 'net' changed .*\(then none, now version 1\); run evaluate"
    ):
        register_model(model, report, project.folder / "registration", NET)
    assert versions() == {"1": "passed"}
    assert not (project.folder / "registration").exists()


def test_a_report_of_another_model_is_refused(project: Base) -> None:
    model = untrained_model(project.folder / "second", project.dataset, seed=1)
    with pytest.raises(UserError, match="judges another model"):
        register_model(model, project.report, project.folder / "registration", NET)


def test_an_altered_model_or_report_is_refused(project: Base) -> None:
    model, report = second_model(project)
    with (report / SAMPLE).open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=r"sample\.parquet was altered"):
        register_model(model, report, project.folder / "registration", NET)
    (model / "README.md").write_text("another card")
    with pytest.raises(UserError, match=r"README\.md was altered"):
        register_model(model, project.report, project.folder / "registration", NET)


@pytest.mark.slow
def test_a_version_that_answers_otherwise_moves_nothing_and_is_superseded(project: Base) -> None:
    model, report = second_model(project)
    right = pq.read_table(report / SAMPLE)
    told = right["probabilities"].to_pylist()
    told[3] = dict(zip(told[3], reversed(told[3].values()), strict=True))
    wrong = right.set_column(
        right.column_names.index("probabilities"),
        "probabilities",
        pa.array(told, right["probabilities"].type),
    )
    pq.write_table(wrong, report / SAMPLE)
    seal_report(report)
    # A run that was killed while it uploaded left this.
    mlflow, sha256 = client(), Predictor.load(model).model_sha256
    half = mlflow.create_logged_model(experiment_id(mlflow), name="net", tags={MODEL_SHA256: sha256})
    with pytest.raises(UserError, match="models:/net/2 does not serve what was evaluated: sample 4 has prob"):
        register_model(model, report, project.folder / "registration", NET)
    assert versions() == {"1": "passed", "2": "failed"}
    logged = mlflow.search_logged_models([experiment_id(mlflow)], f"tags.{MODEL_SHA256} = '{sha256}'")
    assert half.model_id not in {found.model_id for found in logged}
    assert lookup.state("net") == {"champion": "1", "challenger": None}
    pq.write_table(right, report / SAMPLE)
    seal_report(report)
    made = register_model(model, report, project.folder / "registration", NET)
    assert (made["version"], made["alias"], made["champion"]["version"]) == ("3", "challenger", "1")
    assert versions() == {"1": "passed", "3": "passed"}
    assert lookup.state("net") == {"champion": "1", "challenger": "3"}
    assert lookup.still_holds(made)


@pytest.mark.slow
def test_what_a_killed_run_left_is_finished(project: Base) -> None:
    """It had made the version, and was killed before anyone had verified it."""
    model, report = second_model(project, verdict="champion")
    mlflow = client()
    sha256 = Predictor.load(model).model_sha256
    tags = {MODEL_SHA256: sha256, "train_run_id": tracking.train_run(mlflow, model)}
    half = _new_version(mlflow, "net", Source(model, pq.read_table(report / SAMPLE), tags))
    assert not half.usable
    mlflow.set_registered_model_alias("net", "challenger", half.version)
    made = register_model(model, report, project.folder / "registration", NET)
    assert (made["version"], made["alias"]) == (half.version, "champion")
    assert versions() == {"1": "passed", "2": "passed"}
    assert lookup.state("net") == {"champion": "2", "challenger": None}
    assert [(entry.before, entry.to) for entry in history.moves("net")] == [("", "1"), ("1", "2")]
    old = fetch_champion("net", project.folder / "scratch")
    assert old is not None
    assert old.model_sha256 == sha256


def test_a_champion_of_someone_else_is_named(project: Base) -> None:
    mlflow = client()
    mlflow.create_model_version("net", "runs:/abc/model")
    mlflow.set_registered_model_alias("net", "champion", "2")
    with pytest.raises(UserError, match=r"net@champion \(version 2\) was not registered by retrainer"):
        fetch_champion("net", project.folder / "scratch")


def test_a_champion_whose_files_are_gone_is_named(project: Base) -> None:
    mlflow = client()
    tags = {MODEL_SHA256: "a" * 64, "verification": "passed"}
    mlflow.create_model_version("net", str(project.folder / "gone"), tags=tags)
    mlflow.set_registered_model_alias("net", "champion", "2")
    with pytest.raises(UserError, match="files are gone"):
        fetch_champion("net", project.folder / "scratch")


@pytest.mark.slow
def test_a_server_registers_and_serves_the_same(
    project: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through HTTP, its address with a password in it; then asked by MLflow's own scoring server."""
    (tmp_path / "server").mkdir()
    with running_server(tmp_path / "server") as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address.replace("://", "://ann:swordfish@"))
        model, report = project.first, project.report
        made = register_model(model, report, project.folder / "registration", NET)
        assert (made["version"], made["alias"]) == ("1", "champion")
        assert lookup.still_holds(made)
        assert register_model(model, report, project.folder / "registration", NET)["version"] == "1"
        champion = fetch_champion("net", project.folder / "scratch")
        assert champion is not None
        assert champion.directory.is_relative_to(project.folder)
        assert Predictor.load(champion.directory).model_sha256 == made["model_sha256"]
        check_no_secret(made, tmp_path)
        check_shown_by_the_setting(project)
        check_scoring_server(project, address)
    with pytest.raises(UserError, match=f"MLFLOW_TRACKING_URI={address} does not answer") as caught:
        register_model(model, report, project.folder / "registration", NET)
    assert "swordfish" not in str(caught.value)


def check_shown_by_the_setting(project: Base) -> None:
    """In Kubeflow's Model Registry, with the place that the server keeps for the files."""
    with running_model_registry() as second:
        kubeflow = NET.model_copy(update={"kubeflow": second.url})
        told = register_model(project.first, project.report, project.folder / "registration", kubeflow)
        assert told["kubeflow"]["state"] == "told" and second.labels("1") == {"champion"}
        (artifact,) = second.things["model_artifacts"]
        assert artifact["uri"].startswith("mlflow-artifacts:/")
        assert "swordfish" not in json.dumps(second.things)


def check_no_secret(made: dict[str, Any], folder: Path) -> None:
    assert "swordfish" not in json.dumps(made)
    version = lookup.by_version("net", "1")
    assert version is not None
    assert "swordfish" not in json.dumps(dict(version.tags))
    for path in folder.rglob("*"):
        assert not path.is_file() or b"swordfish" not in path.read_bytes(), path


def check_scoring_server(project: Base, address: str) -> None:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        "models:/net@champion",
        "-p",
        str(port),
    ]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"MLFLOW_TRACKING_URI": address, "PATH": path}
    table = Dataset(project.dataset).split("test")
    text = [base64.b64encode(image["bytes"]).decode() for image in table["image"].to_pylist()[:3]]
    expected = Predictor.load(project.first).probabilities(table.slice(0, 3))
    with subprocess.Popen(
        [*command, "--env-manager", "local"], env=environment, cwd=project.folder
    ) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process)
            for body in (
                {"dataframe_split": {"columns": ["image"], "data": [[one] for one in text]}},
                {"dataframe_records": [{"image": one} for one in text]},
            ):
                answer = post(f"http://127.0.0.1:{port}/invocations", body)["predictions"]
                found = [[row["probabilities"][label] for label in "abc"] for row in answer]
                np.testing.assert_allclose(found, expected, atol=1e-6)
                assert [row["label"] for row in answer] == ["abc"[best] for best in expected.argmax(axis=1)]
        finally:
            process.terminate()


def post(address: str, body: dict[str, Any]) -> Any:
    data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(address, data, headers), timeout=30) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_two_processes_register_one_version(project: Base) -> None:
    model, report = second_model(project)
    code = (
        "import sys; from pathlib import Path; from retrainer.registry.register import register_model;"
        "from retrainer.settings import Registry;"
        "register_model(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), Registry(name='net'))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    many = [
        subprocess.Popen([sys.executable, "-c", code, str(model), str(report), f"out{n}"], env=environment)
        for n in range(2)
    ]
    assert [process.wait() for process in many] == [0, 0]
    assert versions() == {"1": "passed", "2": "passed"}
    outs = [json.loads(Path(f"out{n}/registration.json").read_text()) for n in range(2)]
    assert outs[0]["version"] == outs[1]["version"] == "2"


def test_a_version_tells_its_judgement_in_tags_and_in_its_description(project: Base) -> None:
    figures = json.loads((project.report / METRICS).read_text())
    champion = lookup.by_alias("net", "champion")
    assert champion is not None
    tags = champion.tags
    assert tags["test_sha256"] == figures["test_set"]["sha256"] and tags["test_uses"] == "1"
    assert tags["gate.alpha"] == "0.05" and tags["gate.rows"] == str(figures["rows"])
    assert tags["details.temperature"] == "1"
    card = (project.report / "model_card.md").read_text()
    told = client().get_model_version("net", champion.version).description
    assert told == description(card) and told.startswith("# ")


def test_the_next_model_on_the_same_rows_is_the_second_that_they_judge(
    project: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_serving_check(monkeypatch)
    model = untrained_model(project.folder / "second", project.dataset, seed=1)
    sections = (
        Checks(),
        Evaluation(resamples=100, baseline=False, explain=0),
        Gate(beat_trivial=False),
        NET,
        Compute(device="cpu", dtype="float32", threads=1),
    )
    report = project.folder / "second-report"
    views = (None, None, None)
    for _ in range(2):  # registered once or twice, it is one model
        evaluate(project.dataset, model, report, *views, *sections)
        assert json.loads((report / METRICS).read_text())["test_set"]["uses"] == 2
        register_model(model, report, project.folder / "registration", NET)
    test_set = json.loads((report / METRICS).read_text())["test_set"]
    assert {(one.test_sha256, one.sample) for one in lookup.judgements("net")} == {
        (test_set["sha256"], test_set["sample"])
    }
    found = lookup.versions_of("net", Predictor.load(model).model_sha256)
    assert [version.tags["test_uses"] for version in found] == ["2"]


def test_a_month_whose_data_changed_is_held_until_a_person_accepts_them(project: Base) -> None:
    """Ten times as many rows as the champion's: what its run keeps of them is all that is left of them."""
    champion = lookup.by_alias("net", "champion")
    assert champion is not None
    told = data_tags(json.loads((project.report / METRICS).read_text())["data"])
    assert told["data.rows_in"] == "24" and told.items() <= champion.tags.items()
    assert told.items() <= client().get_run(champion.tags["evaluation_run_id"]).data.tags.items()
    dataset = image_dataset(project.folder / "larger", rows=240)
    model = untrained_model(project.folder / "next", dataset, seed=1)

    def gate(**settings: Any) -> dict[str, Any]:
        classes = ("a", "b", "c")  # a model without training: its classes are not what is judged here
        rules = Gate(policy="not-worse", margin=0.99, beat_trivial=False, accept_classes=classes, **settings)
        found = Evaluation(resamples=100, baseline=False, explain=0)
        compute = Compute(device="cpu", dtype="float32", threads=1)
        evaluate(
            dataset, model, project.folder / "out", None, None, None, Checks(), found, rules, NET, compute
        )
        told: dict[str, Any] = json.loads((project.folder / "out" / METRICS).read_text())["gate"]
        return told

    held = gate()
    line = f'gate: {{accepted_data: "{Dataset(dataset).content_sha256[:12]}"}}'
    assert held["verdict"] == "challenger" and held["reasons"][0].endswith(line), held["reasons"]
    assert "rows 24 → 240 (gate.changes.more_rows = 2)" in held["reasons"][0]
    accepted = gate(accepted_data=line.split('"')[1])
    assert accepted["verdict"] == "champion"
    assert gate(changes={"more_rows": 0})["verdict"] == "champion"


def test_that_no_new_data_came_is_said_in_words(project: Base) -> None:
    model, report = second_model(project)
    reasons = json.loads((report / METRICS).read_text())["gate"]["reasons"]
    assert reasons[-1] == "no new data came: the champion was trained on these very rows"
    figures = json.loads((project.folder / "second-report" / METRICS).read_text())
    assert figures["model_sha256"] == json.loads((model / "manifest.json").read_text())["model_sha256"]
