"""One step of a run again on this machine: same inputs, same settings, same result or same failure."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.command import main as components
from pipelines.cluster.replay import REPLAYS, replay
from pipelines.containers.record import Record
from pipelines.kubeflow import section_text
from retrainer.errors import UserError
from retrainer.formats.files import content_digest
from retrainer.resolve import settle
from tests.cluster_run import BUCKET, PIPELINE, TOKEN, ClusterRun, cluster_run, stored
from tests.conftest import ROOT
from tests.project import RECIPE, TINY, draw_stripes
from tests.s3_server import SECRET

# Each replays a step of a run that is made for it: six seconds.
pytestmark = pytest.mark.slow

Sections = dict[str, dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterRun]:
    """A run whose ingest and preprocess went well; it was submitted with one epoch, not the recipe's two."""
    with cluster_run(tmp_path, monkeypatch) as made:
        made.submit("training.epochs=1")
        raw = made.ingest(tmp_path)
        sections = sections_of(made.project)
        prepared(raw, tmp_path / "dataset", sections)
        made.put("preprocess", "dataset", tmp_path / "dataset")
        yield made


def sections_of(project: Path, *overrides: str) -> Sections:
    return {name: section.plain() for name, section in settle(RECIPE, list(overrides), project)[1].items()}


def given(sections: Sections, *names: str) -> list[str]:
    return [word for name in names for word in (f"--{name}", json.dumps(sections[name]))]


def prepared(raw: Path, dataset: Path, sections: Sections) -> None:
    words = ["preprocess", "--raw", str(raw), "--dataset", str(dataset), *given(sections, "split", "task")]
    words += ["--findings", str(dataset.with_name("findings"))]
    assert components(words) == 0


def printed_command(printed: str) -> list[str]:
    """The words of the line that a person may paste."""
    return shlex.split(next(line for line in printed.splitlines() if " -m components " in line))


@pytest.mark.slow
def test_a_clusters_step_is_run_again_on_its_own_inputs_and_settings(
    run: ClusterRun, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert replay(run.run_id, "train", run.project) == 0
    printed = capfd.readouterr()
    made = run.project / REPLAYS / f"{run.run_id}-train"
    assert f"dataset: {content_digest(tmp_path / 'dataset')}" in printed.out
    history = json.loads((made / "outputs" / "model" / "history.json").read_text())
    assert len(history) == 1, "one epoch, as the run was submitted, not two as the recipe says"
    assert (made / "mlflow.db").is_file() and not (run.project / "mlflow.db").exists()
    assert TOKEN not in printed.out + printed.err and SECRET not in printed.out + printed.err
    pasted = printed_command(printed.out)
    before = content_digest(made / "outputs" / "model")
    names = [word.split("=", 1) for word in pasted if "=" in word and word.partition("=")[0].isupper()]
    subprocess.run(
        pasted[len(names) :], cwd=ROOT, env=os.environ | dict(names), check=True, capture_output=True
    )
    assert content_digest(made / "outputs" / "model") == before


def test_an_input_that_is_not_byte_for_byte_the_runs_own_is_refused(run: ClusterRun, tmp_path: Path) -> None:
    from retrainer.services.s3 import s3_client

    key = next(key for key in stored(BUCKET) if "/preprocess/" in key and "train-00000" in key)
    assert f"v2/artifacts/{PIPELINE}/{run.run_id}/preprocess/" in key
    content = bytearray((tmp_path / "dataset" / "train-00000.parquet").read_bytes())
    content[100] ^= 1
    s3_client().put_object(Bucket=BUCKET, Key=key, Body=bytes(content))
    with pytest.raises(UserError, match=r"train-00000.parquet was altered"):
        replay(run.run_id, "train", run.project)
    s3_client().delete_object(Bucket=BUCKET, Key=key)
    with pytest.raises(UserError, match=r"train-00000.parquet is missing"):
        replay(run.run_id, "train", run.project)


@pytest.mark.slow
def test_of_a_retried_step_the_newest_output_counts(
    run: ClusterRun, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    time.sleep(1.1)  # S3 tells times in seconds
    sections = sections_of(run.project, "split.salt=other")
    prepared(tmp_path / "raw", tmp_path / "second", sections)
    run.put("preprocess", "dataset", tmp_path / "second")
    assert replay(run.run_id, "train", run.project) == 0
    assert f"dataset: {content_digest(tmp_path / 'second')}" in capfd.readouterr().out


def test_what_the_run_did_not_come_to_is_told(run: ClusterRun) -> None:
    with pytest.raises(UserError, match="there is no model of train at minio://mlpipeline"):
        replay(run.run_id, "evaluate", run.project)
    with pytest.raises(UserError, match="STEP=trian: no such step; did you mean 'train'"):
        replay(run.run_id, "trian", run.project)
    with pytest.raises(UserError, match="expected the id of a run"):
        replay("../../etc", "train", run.project)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "recipes").mkdir(parents=True)
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (folder / "recipes" / f"{RECIPE}.yaml").write_text(TINY)
    draw_stripes(folder / "data" / "stripes", rows=60)
    return folder


def as_kubeflow_passes(sections: Sections, *names: str) -> Sections:
    return {name: section_text(sections[name]) for name in names}


def rehearsed_train(project: Path, *settings: str) -> tuple[Record, int]:
    """A rehearsal up to train, written by its own recorder, and train's exit status."""
    sections = sections_of(project, f"source.path={project / 'data' / 'stripes'}", *settings)
    record = Record(project, RECIPE)
    folder = record.artifacts / PIPELINE
    raw, dataset = folder / "ingest" / "raw", folder / "preprocess" / "dataset"
    assert components(["ingest", "--raw", str(raw), *given(sections, "source")]) == 0
    prepared(raw, dataset, sections)
    inputs = {"dataset": record.artifact(dataset, "system.Dataset", {})}
    arguments = as_kubeflow_passes(sections, "task", "backbone", "training", "compute")
    digest = {"dataset_sha256": content_digest(dataset)}
    record.begin("train", "localhost/retrainer:1", arguments | digest, inputs)
    words = ["train", "--dataset", str(dataset), "--model", str(folder / "train" / "model")]
    words += given(sections, "task", "backbone", "training", "compute")
    done = subprocess.run(
        [sys.executable, "-m", "components", *words],
        cwd=ROOT,
        env=os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{project}/rehearsal.db"},
        capture_output=True,
        check=False,
    )
    record.end("failed" if done.returncode else "succeeded", exit_code=done.returncode)
    record.finish("failed" if done.returncode else "succeeded")
    return record, done.returncode


def test_a_step_that_failed_in_a_rehearsal_fails_the_same_way(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    record, status = rehearsed_train(project, "training.command=/bin/false")
    assert status != 0
    capfd.readouterr()
    assert replay(record.folder.name, "train", project) == status
    printed = capfd.readouterr()
    assert "train: " in printed.err and "localhost/retrainer:1" in printed.out


def test_an_altered_artifact_of_a_rehearsal_is_refused(project: Path) -> None:
    record, _ = rehearsed_train(project, "training.command=/bin/false")
    extra = record.artifacts / PIPELINE / "preprocess" / "dataset" / "manifest.json"
    extra.write_text(extra.read_text() + "\n")
    with pytest.raises(UserError, match="was altered since the run"):
        replay(record.folder.name, "train", project)
    with pytest.raises(UserError, match="the rehearsal did not come to register; it ran train"):
        replay(record.folder.name, "register", project)


def test_the_debugger_opens_where_the_step_raised(project: Path) -> None:
    record, status = rehearsed_train(project, "training.command=/bin/false")
    code = "from pipelines.cluster.replay import replay; from pathlib import Path; "
    code += f"exit(replay({record.folder.name!r}, 'train', Path({str(project)!r}), debug=True))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        input="where\nquit\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "(Pdb)" in done.stdout and "components/train.py" in done.stdout


def test_a_lent_source_is_read_from_the_file_behind_the_rehearsals_server(project: Path) -> None:
    from pipelines.containers.loopback import SOURCE_BUCKET, bucket

    record = Record(project, RECIPE)
    draw_stripes(bucket(record.folder, SOURCE_BUCKET) / "path" / "stripes", rows=20)
    source = sections_of(project)["source"] | {"path": f"s3://{SOURCE_BUCKET}/path/stripes"}
    record.begin("ingest", "localhost/retrainer:1", {"source": source}, {})
    record.end("succeeded", exit_code=0)
    record.finish("succeeded")
    assert replay(record.folder.name, "ingest", project) == 0
    raw = project / REPLAYS / f"{record.folder.name}-ingest" / "outputs" / "raw"
    assert json.loads((raw / "manifest.json").read_text())["rows"] == {"all": 20}


def test_register_stays_in_a_registry_of_its_own_unless_forced(
    run: ClusterRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The real one is a sqlite file here; without FORCE it is not even made."""
    real = tmp_path / "real.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{real}")
    sections = sections_of(run.project)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "manifest.json").write_text(json.dumps({"files": {}, "model_sha256": "ab"}))
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "manifest.json").write_text(json.dumps({"files": {}}))
    run.put("train", "model", tmp_path / "model")
    run.put("evaluate", "report", tmp_path / "report")
    assert sections["registry"]["name"] == RECIPE
    assert replay(run.run_id, "register", run.project) == 2, "these are no model and no report"
    printed = capfd.readouterr().out
    assert "empty registry of its own" in printed and "FORCE=1" in printed
    assert f"MLFLOW_TRACKING_URI=sqlite:///{run.project}" in printed
    assert not real.exists()
    assert replay(run.run_id, "register", run.project, force=True) == 2
    assert "may change it" in capfd.readouterr().out


# --- what a server may try -----------------------------------------------------------------------------


def spec_of(run: ClusterRun) -> dict[str, Any]:
    whole: dict[str, Any] = run.api.runs[run.run_id]["pipeline_spec"]
    return whole.get("pipeline_spec", whole)


def test_a_port_that_would_leave_its_folder_is_none_of_the_steps(run: ClusterRun) -> None:
    handed = spec_of(run)["root"]["dag"]["tasks"]["train"]["inputs"]["artifacts"]
    handed["../../../../victim"] = handed.pop("dataset")
    with pytest.raises(UserError, match="the run handed no dataset to train"):
        replay(run.run_id, "train", run.project)
    assert not list(run.project.parent.rglob("victim"))


@pytest.mark.parametrize(
    "command", ["sh -c 'touch PWNED'", "/bin/sh run.sh", 'python -c \'open("PWNED", "w")\'']
)
def test_a_trainer_of_the_servers_is_not_run_here(
    run: ClusterRun, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.project)
    (run.project / "run.sh").write_text("touch PWNED")
    parameters = spec_of(run)["root"]["inputDefinitions"]["parameters"]
    training = json.loads(parameters["training"]["defaultValue"])
    training |= {"command": command, "code_digest": "0" * 64}
    parameters["training"]["defaultValue"] = section_text(training)
    with pytest.raises(UserError, match="not code of this checkout as the run had it"):
        replay(run.run_id, "train", run.project)
    assert not list(run.project.rglob("PWNED"))


def test_the_address_that_is_shown_holds_no_password(
    run: ClusterRun, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:canary-9f@127.0.0.1:9")
    parameters = spec_of(run)["root"]["inputDefinitions"]["parameters"]
    backbone = json.loads(parameters["backbone"]["defaultValue"]) | {"weights": "models:/net@champion"}
    parameters["backbone"]["defaultValue"] = section_text(backbone)
    replay(run.run_id, "train", run.project)
    printed = capfd.readouterr()
    assert "MLFLOW_REGISTRY_URI=" in printed.out and "canary-9f" not in printed.out + printed.err
