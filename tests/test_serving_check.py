"""The smoke test of a registered version: MLflow's own scoring server, in a process with nothing of ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrainer.errors import UserError
from retrainer.formats.model_files import read_model
from retrainer.formats.report import SAMPLE
from retrainer.registry import serving_check
from retrainer.registry.serving_check import ask, check_serving
from retrainer.registry.versions import Source, _new_version
from retrainer.services import lookup, tracking
from retrainer.services.connection import client
from retrainer.services.readers import MODEL_SHA256, RegisteredVersion
from tests.champions import NAME, Project, files_of, in_a_copy, own_environment
from tests.conftest import ROOT, first_in_ci
from tests.registered import image_dataset

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One registered version that nobody has asked yet."""
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        own_environment(patch, folder)
        made = Project(folder, image_dataset(folder / "dataset"))
        model, report = made.candidate(0)
        mlflow = client()
        tags = {MODEL_SHA256: read_model(model)["model_sha256"]}
        tags["train_run_id"] = tracking.train_run(mlflow, model)
        _new_version(mlflow, NAME, Source(model, pq.read_table(report / SAMPLE), tags))
        return made


@pytest.fixture
def project(base: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return in_a_copy(base, tmp_path, monkeypatch)


def version() -> RegisteredVersion:
    found = lookup.by_version(NAME, "1")
    assert found is not None
    return found


@pytest.mark.slow
def test_the_scoring_server_answers_what_evaluate_stored(project: Project) -> None:
    sample = sample_of(project)
    found = ask("models:/net/1", sample.select(["image"]))
    assert found["strays"] == []
    assert len(found["answers"]) == len(sample)
    assert check_serving(version(), sample, ["image"]) < 1e-6
    place = sample.column_names.index("probabilities")
    moved = [{**row, "a": row["a"] + 3e-5} for row in sample["probabilities"].to_pylist()]
    other = sample.set_column(place, "probabilities", pa.array(moved))
    assert check_serving(version(), other, ["image"]) == pytest.approx(3e-5, rel=0.1)
    with pytest.raises(
        UserError, match=r"models:/net/1 does not serve what was evaluated: .*no alias was moved"
    ):
        others = [{"a": "b", "b": "c", "c": "a"}[label] for label in sample["label"].to_pylist()]
        place = sample.column_names.index("label")
        check_serving(version(), sample.set_column(place, "label", pa.array(others)), ["image"])


# What is changed in the registered code, into what, and the reason that must be told.
BROKEN = {
    "does not load": ("context: PythonModelContext)", "context, more)", "it does not load: TypeError: "),
    "does not answer": ("context: Any, model_input", "context, model_input, more", "HTTP 400: TypeError: "),
    "no JSON": (
        "return frame_of(predictions, top_k)",
        "return {1, 2}",
        "HTTP 500: TypeError: Object of type set is not JSON serializable",
    ),
}


def change(before: str, after: str) -> None:
    served = files_of("1") / "served.py"
    code = served.read_text()
    assert before in code
    served.write_text(code.replace(before, after, 1))


def sample_of(project: Project) -> pa.Table:
    return pq.read_table(project.folder / "model-0-report" / SAMPLE)


@pytest.mark.slow
@pytest.mark.parametrize("how", first_in_ci(BROKEN))
def test_what_cannot_be_served_over_http_says_why(project: Project, how: str) -> None:
    before, after, reason = BROKEN[how]
    change(before, after)
    told = rf"^models:/net/1 cannot be served over HTTP: {reason}[^\n]*; no alias was moved$"
    with pytest.raises(UserError, match=told):
        ask("models:/net/1", sample_of(project).select(["image"]))


@pytest.mark.usefixtures("project")
def test_altered_weights_are_refused_when_they_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by whoever serves it: MLflow loads the version in the scoring server as here."""
    from mlflow.pyfunc import load_model

    weights = files_of("1") / "artifacts/model/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    monkeypatch.setattr("sys.path", list(sys.path))
    with pytest.raises(UserError, match=r"model\.safetensors was altered"):
        load_model("models:/net/1", suppress_warnings=True)


@pytest.mark.slow
def test_the_server_listens_on_loopback_alone_and_ends_with_whoever_started_it(project: Project) -> None:
    """The check is killed while it waits for a model that does not answer."""
    asked = project.folder / "asked"
    change(
        "table = table_of(", f"Path({str(asked)!r}).touch(); __import__('time').sleep(300); table = table_of("
    )
    code = (
        "import pyarrow.parquet as pq; from retrainer.registry.serving_check import ask;"
        f"ask('models:/net/1', pq.read_table('model-0-report/{SAMPLE}').select(['image']))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=project.folder) as parent:
        until = time.monotonic() + 60
        while not asked.exists() and time.monotonic() < until:
            time.sleep(0.05)
        (child,) = psutil.Process(parent.pid).children()
        listening = [place.laddr.ip for place in child.net_connections() if place.status == "LISTEN"]
        assert listening == ["127.0.0.1"]
        parent.send_signal(signal.SIGKILL)
    gone, _ = psutil.wait_procs([child], timeout=10)
    assert gone


@pytest.mark.slow
def test_a_server_that_does_not_answer_in_time_is_ended(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_check, "_TIMEOUT_SECONDS", 6.0)
    change("table = table_of(", "__import__('time').sleep(300); table = table_of(")
    # Another test of this process may have left one that lives as long as the process, such as a tracker.
    before = set(psutil.Process().children())
    with pytest.raises(UserError, match=r"^models:/net/1 cannot be served over HTTP: no answer within 6 s; "):
        ask("models:/net/1", sample_of(project).select(["image"]))
    assert set(psutil.Process().children()) <= before
