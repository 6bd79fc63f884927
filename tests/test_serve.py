"""`make serve`: which version, which port, what the served model is asked with, and how errors read."""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from retrainer.__main__ import main
from retrainer.data.ingest import ingest
from retrainer.data.preprocess import preprocess
from retrainer.errors import UserError
from retrainer.formats.columns import source_names
from retrainer.formats.dataset import Dataset
from retrainer.formats.report import SAMPLE
from retrainer.predict import Predictor
from retrainer.registry.bundle import save_bundle
from retrainer.registry.serving_check import request_of
from retrainer.services import isolated
from retrainer.serving.command import Request, example_row, find_version, greeting
from retrainer.serving.listening import refuse_taken
from retrainer.serving.page_start import free_page_port
from retrainer.serving.server import explained
from retrainer.settings import Checks, Source, Split
from tests.champions import Project, files_of, in_a_copy
from tests.registered import IMAGES, image_dataset, judged, untrained_model

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]
URI = "models:/net/2"


@pytest.fixture
def project(three_versions: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return in_a_copy(three_versions, tmp_path, monkeypatch)


# --- which version, and where ---------------------------------------------------------------------------


def test_a_version_is_found_by_number_or_alias(project: Project) -> None:  # noqa: ARG001
    for asked, version in (("champion", "2"), ("challenger", "3"), ("1", "1")):
        assert find_version("net", Request(version=asked)).version == version


@pytest.mark.parametrize(
    ("name", "asked", "says"),
    [
        ("net", "9", r"^VERSION=9: 'net' has no such version or alias; VERSION= serves one of 1, 2, 3$"),
        ("net", "best", r"^VERSION=best: 'net' has no such version or alias; .*"),
        ("other", "champion", r"no champion yet, and nothing to serve: `make pipeline` trains and registers"),
    ],
)
def test_what_is_not_there_is_refused_with_the_cure(
    project: Project,  # noqa: ARG001
    name: str,
    asked: str,
    says: str,
) -> None:
    with pytest.raises(UserError, match=says) as refused:
        find_version(name, Request(version=asked))
    assert "\n" not in str(refused.value)


def test_without_a_champion_the_versions_are_named(project: Project) -> None:  # noqa: ARG001
    from retrainer.services.connection import client

    client().delete_registered_model_alias("net", "champion")
    says = r"no champion yet; `make promote VERSION=3` makes one; VERSION= serves one of 1, 2, 3$"
    with pytest.raises(UserError, match=says):
        find_version("net", Request())
    client().set_model_version_tag("net", "1", "verification", "failed")
    with pytest.raises(UserError, match="models:/net/1 was not proven to serve"):
        find_version("net", Request(version="1"))


def test_a_taken_port_and_a_foreign_address_are_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"^PORT={port}: another process listens there already; choose"):
            refuse_taken("127.0.0.1", port)
        with pytest.raises(UserError, match=rf"^PAGE_PORT={port}: another process listens there already"):
            free_page_port(str(port), "127.0.0.1", port - 1)
        assert (free_page_port("", "127.0.0.1", port - 1) or 0) > port
    assert free_page_port("none", "127.0.0.1", port) is None
    refuse_taken("127.0.0.1", port)
    with pytest.raises(UserError, match=r"^HOST=192\.0\.2\.1: this machine cannot listen there"):
        refuse_taken("192.0.2.1", port)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--port", "80a"], "PORT=80a: needed is a number from 1 to 65,535"),
        (["--port", "70000"], "PORT=70000: needed"),
        (["--page-port", "no"], "PAGE_PORT=no: needed is a number from 1 to 65,535"),
        (["--page-port", "8080"], "PAGE_PORT=8080: the server itself listens there"),
        (["--workers", "0"], "WORKERS=0: needed is a number from 1 to 64"),
        (["--model", "other"], "models:/other@champion: there is no champion yet"),
    ],
)
def test_wrong_words_are_refused_in_one_line(
    project: Project,  # noqa: ARG001
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    says: str,
) -> None:
    assert main(["serve", *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"serve: {says}") and err.count("\n") == 1


def test_a_registry_that_does_not_answer_is_refused(
    project: Project,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main(["serve"]) == 2
    err = capsys.readouterr().err
    assert "127.0.0.1:9" in err and err.count("\n") == 1


def test_what_was_altered_is_not_served(
    project: Project,  # noqa: ARG001
    capsys: pytest.CaptureFixture[str],
) -> None:
    (files_of("2") / "served.py").write_text("import os\n")
    assert main(["serve", "--port", "18080"]) == 2
    assert "was altered" in capsys.readouterr().err


def test_the_process_becomes_an_isolated_server(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (project.folder / "params.yaml").unlink()  # as in an image, which holds no recipe
    became: list[Any] = []

    def remember(program: str, words: list[str], environment: dict[str, str]) -> None:
        became.extend([program, words, environment])
        raise SystemExit

    monkeypatch.setenv("RETRAINER_SIGNING_KEY", "secret")
    monkeypatch.setattr(isolated.os, "execve", remember)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with pytest.raises(SystemExit):
        main(["serve", "--model", "net", "--port", port, "--version", "challenger"])
    program, words, environment = became
    assert (program, words[1:3], words[5:]) == (sys.executable, ["-I", "-B"], ["127.0.0.1", port, "1"])
    scratch = Path(words[4])
    assert (scratch / "bundle/MLmodel").is_file() and not (scratch / "fetched").exists()
    assert "RETRAINER_SIGNING_KEY" not in environment and environment["OMP_NUM_THREADS"].isdigit()
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    ready = (scratch / "ready.txt").read_text()
    assert ready.startswith(f"http://127.0.0.1:{port} serves models:/net/3; Ctrl-C ends it")
    page = json.loads((scratch / "page.json").read_text())
    assert page["command"][-3] == str(os.getpid()) and page["command"][-2] == "127.0.0.1"
    assert not [name for name in page["environment"] if name.startswith(("RETRAINER", "MLFLOW"))]
    assert json.loads((scratch / "told.json").read_text())["columns"] == {"image": "image"}
    monkeypatch.setattr("retrainer.serving.page_start.find_spec", lambda _: None)
    for asked, how_to_get_it in (([], True), (["--page-port", "none"], False)):
        became.clear()
        with pytest.raises(SystemExit):
            main(["serve", "--model", "net", "--port", port, *asked])
        scratch = Path(became[1][4])
        assert not (scratch / "page.json").exists()
        assert ("pip install 'retrainer[page]'" in (scratch / "ready.txt").read_text()) == how_to_get_it


# --- what is asked --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model from a table that calls its image `photo`: dataset, model, report, bundle."""
    folder = tmp_path_factory.mktemp("named")
    table = Dataset(image_dataset(folder / "images", rows=60)).split("train")
    labels = [one[0] for one in table["labels"].to_pylist()]
    photos = [one["bytes"] for one in table["image"].to_pylist()]
    import pyarrow as pa

    pq.write_table(pa.table({"photo": photos, "sort": labels}), folder / "mine.parquet")
    source = Source(path=str(folder / "mine.parquet"), image="photo", label="sort")
    ingest(source, folder / "raw")
    checks = Checks.parse(dict.fromkeys(("label_noise", "shortcuts", "leaks", "rare_class"), "off"), "checks")
    preprocess(folder / "raw", folder / "dataset", Split(test=0.4, validation=0.2), checks, IMAGES)
    model = untrained_model(folder / "model", folder / "dataset")
    judged(folder / "report", folder / "dataset", model, None)
    save_bundle(model, pq.read_table(folder / "report" / SAMPLE), folder / "bundle", "m-0", "run")
    return folder


def test_the_name_in_the_source_reaches_the_sample(named: Path) -> None:
    sample = pq.read_table(named / "report" / SAMPLE)
    assert source_names(sample.schema) == {"image": "photo", "labels": "sort"}
    assert request_of(sample.select(["image"]))["dataframe_split"]["columns"] == ["photo"]


def test_a_served_model_is_asked_by_the_users_own_words(named: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.pyfunc import load_model

    monkeypatch.setattr(sys, "path", list(sys.path))
    served = load_model(str(named / "bundle"), suppress_warnings=True)
    signature = served.metadata.signature
    assert signature.inputs.input_names() == ["photo"]
    assert [param.name for param in signature.params.params] == ["top_k"]
    assert list(served.input_example.columns) == ["photo"]
    photos = [one["bytes"] for one in Dataset(named / "dataset").split("test")["image"].to_pylist()]
    answers = served.predict({"photo": np.array(photos, object)})
    expected = Predictor.load(named / "model").probabilities(Dataset(named / "dataset").split("test"))
    shares = [[row[label] for label in "abc"] for row in answers["probabilities"]]
    np.testing.assert_allclose(shares, expected, atol=1e-6)
    two = served.predict({"photo": np.array(photos, object)}, params={"top_k": 2})
    for row, whole in zip(two["probabilities"], answers["probabilities"], strict=True):
        assert list(row.items()) == sorted(whole.items(), key=lambda one: -one[1])[:2]
    for wrong, says in (
        ({"image": np.array(photos, object)}, r"missing inputs \['photo'\]"),
        ({"photo": np.array([b"no image"], object)}, r"^row 0: "),
    ):
        with pytest.raises(Exception, match=says):
            served.predict(wrong)
    with pytest.raises(ValueError, match=r"^top_k is -1: expected how many classes"):
        served.predict({"photo": np.array(photos, object)}, params={"top_k": -1})


def test_what_is_printed_works_in_a_shell(named: Path, tmp_path: Path) -> None:
    lines = greeting(Request(port=8081), URI, named / "bundle", tmp_path)
    assert lines[0].startswith(f"http://127.0.0.1:8081 serves {URI}; Ctrl-C ends it")
    program, address, header, kind, data, body = shlex.split(lines[-1])
    assert (program, address) == ("curl", "http://127.0.0.1:8081/invocations")
    assert (header, kind, data) == ("-H", "Content-Type: application/json", "-d")
    assert list(json.loads(body)["dataframe_records"][0]) == ["photo"]
    lines = greeting(Request(host="0.0.0.0"), URI, named / "bundle", tmp_path)
    assert "HOST=0.0.0.0: whoever reaches this machine can ask it" in lines[1]
    assert example_row(tmp_path) is None


# --- errors ---------------------------------------------------------------------------------------------


def as_mlflow_says(message: str, trace: str = "") -> bytes:
    return json.dumps({"error_code": "BAD_REQUEST", "message": message, "stack_trace": trace}).encode()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (
            400,
            as_mlflow_says(
                "Failed to predict data '   text\n0  a'. \nError: Failed to enforce schema of data 'x' with"
                " schema '['photo']'. Error: Model is missing inputs ['photo']."
            ),
            (400, "Model is missing inputs ['photo']."),
        ),
        (
            400,
            as_mlflow_says("Invalid input. Ensure that input is JSON. Error: 'x'\nInput: \n{secret"),
            (400, "Ensure that input is JSON. Error: 'x'"),
        ),
        # A version of an older release raises this.
        (400, as_mlflow_says("Encountered", "File a\nValueError: row 1: no"), (400, "row 1: no")),
        (400, as_mlflow_says("Encountered", "x\nretrainer.errors.DataError: row 1"), (400, "row 1")),
        (
            400,
            as_mlflow_says("Encountered", "File a\nRuntimeError: a bug"),
            (500, "the model failed: RuntimeError: a bug"),
        ),
        (404, b'{"detail":"Not Found"}', (404, "Not Found")),
        (415, b"only JSON", (415, "only JSON")),
    ],
)
def test_an_error_starts_with_the_reason(status: int, body: bytes, expected: tuple[int, str]) -> None:
    assert explained(status, body) == expected
