"""Reading the registry: the same answers from a sqlite file and from a server, without importing MLflow."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from retrainer.errors import ServiceError, UserError
from retrainer.services import json_http, lookup, tracking
from retrainer.services.address import sqlite_path, tracking_uri, without_credentials
from retrainer.services.connection import client, experiment_id
from retrainer.services.database import ensure_database
from tests.conftest import ROOT
from tests.mlflow_server import running_server

# MLflow's own queries, seen by a newer SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*")

SHA, OTHER, TEST = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory as the project's root, and no server named in the environment."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fill() -> None:
    """Version 1: usable champion; 2: usable challenger; 3: not verified; 4: deleted; 5: someone else's."""
    mlflow = client()
    run = mlflow.create_run(experiment_id(mlflow)).info.run_id
    Path("note.txt").write_text("kept by the run")
    mlflow.log_artifact(run, "note.txt")
    mlflow.create_registered_model("net")
    passed = {"verification": "passed"}
    for tags in (
        {"model_sha256": SHA, "test_sha256": TEST, "test_sample": "3:AAAA", **passed},
        {"model_sha256": OTHER, "test_sha256": TEST, **passed},
        {"model_sha256": OTHER, "test_sha256": TEST},
        {"model_sha256": SHA, **passed},
        {"test_sha256": TEST},
    ):
        mlflow.create_model_version("net", f"runs:/{run}/model", run_id=run, tags=tags)
    mlflow.delete_model_version("net", "4")
    mlflow.set_registered_model_alias("net", "champion", "1")
    mlflow.set_registered_model_alias("net", "challenger", "2")


def check_answers() -> None:
    """What any reader must say of the registry that `fill` made."""
    champion = lookup.by_alias("net", "champion")
    assert champion is not None
    assert (champion.name, champion.version, champion.model_sha256) == ("net", "1", SHA)
    assert champion.usable
    assert champion.run_id
    assert lookup.by_version("net", "1") == champion
    assert lookup.by_sha256("net", SHA) == champion
    assert lookup.state("net") == {"champion": "1", "challenger": "2"}
    assert [v.version for v in lookup.versions_of("net", OTHER)] == ["2", "3"]
    assert [v.usable for v in lookup.versions_of("net", OTHER)] == [True, False]
    assert [v.version for v in lookup.usable_versions("net")] == ["1", "2"]
    assert lookup.usable_versions("unknown") == []
    told = [("a", "c" * 64, "3:AAAA"), ("b", "c" * 64, ""), ("b", "c" * 64, "")]
    assert sorted((one.model_sha256[0], *one[1:]) for one in lookup.judgements("net")) == sorted(told)
    assert lookup.judgements("unknown") == []
    stranger = lookup.by_version("net", "5")
    assert stranger is not None
    assert (stranger.model_sha256, stranger.usable) == ("", False)
    for nothing in (
        lookup.by_alias("net", "elsewhere"),
        lookup.by_alias("unknown", "champion"),
        lookup.by_version("net", "4"),
        lookup.by_version("net", "99"),
        lookup.by_sha256("net", "c" * 64),
        lookup.by_sha256("unknown", SHA),
    ):
        assert nothing is None
    holds = {
        "name": "net",
        "version": "1",
        "model_sha256": SHA,
        "champion": {"version": "1", "model_sha256": SHA},
    }
    assert lookup.still_holds(holds)
    assert lookup.still_holds(holds | {"version": "2", "model_sha256": OTHER})
    assert not lookup.still_holds(holds | {"version": "3", "model_sha256": OTHER})
    assert not lookup.still_holds(holds | {"model_sha256": OTHER})
    assert not lookup.still_holds(holds | {"champion": {"version": "2", "model_sha256": OTHER}})
    assert not lookup.still_holds(holds | {"champion": None})
    assert not lookup.champion_is("net", None)
    assert lookup.champion_is("unknown", None)


def check_files(run_id: str, into: Path) -> None:
    """What must be found of the files of the run that `fill` made."""
    into.mkdir()
    found = tracking.fetch_artifact(run_id, "note.txt", into)
    assert found is not None
    assert found.read_text() == "kept by the run"
    assert tracking.fetch_artifact(run_id, "other.txt", into) is None


def test_a_sqlite_file_answers(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill()
    check_answers()
    assert tracking.fetch_artifact("0" * 32, "note.txt", project) is None
    monkeypatch.delattr(tracking, "client")  # to import MLflow takes seconds
    check_files(lookup.by_version("net", "1").run_id, project / "fetched")  # type: ignore[union-attr]


@pytest.mark.release
def test_a_server_answers_the_same(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_server(project) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        fill()
        check_answers()
        check_files(lookup.by_version("net", "1").run_id, project / "fetched")  # type: ignore[union-attr]
        assert tracking.fetch_artifact("0" * 32, "note.txt", project) is None


def test_an_absent_file_holds_nothing(project: Path) -> None:
    assert lookup.by_alias("net", "champion") is None
    assert lookup.state("net") == {"champion": None, "challenger": None}
    registration = {"name": "net", "version": "1", "model_sha256": SHA, "champion": None}
    assert not lookup.still_holds(registration)
    assert list(project.iterdir()) == []


def test_a_database_without_models_holds_nothing(project: Path) -> None:
    ensure_database()
    assert lookup.state("net") == {"champion": None, "challenger": None}
    assert (project / "mlflow.db").is_file()


def test_a_file_that_is_no_database_is_told(project: Path) -> None:
    (project / "mlflow.db").write_text("not a database, but long enough to be taken for one" * 20)
    with pytest.raises(UserError, match=r"mlflow\.db: MLflow's database cannot be read .*move it away"):
        lookup.by_alias("net", "champion")


def test_looking_up_a_champion_imports_nothing_heavy(project: Path) -> None:
    """A process finds out whether there is anything to do before it could have imported MLflow."""
    ensure_database()
    assert (project / "mlflow.db").is_file()
    code = (
        "import sys; from retrainer.services import lookup;"
        "lookup.still_holds({'name': 'net', 'version': '1', 'model_sha256': '', 'champion': None});"
        "print([m for m in ('mlflow', 'numpy', 'pandas', 'pydantic', 'ssl') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


class Answering(BaseHTTPRequestHandler):
    """Records what was asked, and answers what the test put into the server."""

    def do_GET(self) -> None:
        server: Any = self.server
        server.seen.append((self.path, dict(self.headers)))
        threading.Event().wait(server.seconds)
        status, headers, body = server.answers.pop(0) if server.answers else server.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def http(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:  # noqa: ARG001
    """An HTTP server on loopback, named as the tracking server."""
    server: Any = HTTPServer(("127.0.0.1", 0), Answering)
    server.seen, server.answer = [], (200, {}, b"{}")
    server.answers, server.seconds = [], 0.0
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


def authorization(server: Any) -> str | None:
    return server.seen[-1][1].get("Authorization")


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


def test_credentials_are_sent(http: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lookup.by_alias("net", "champion")
    assert authorization(http) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:p%40ss@127.0.0.1:{http.server_port}")
    lookup.by_alias("net", "champion")
    assert authorization(http) == basic("ann:p@ss")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret-token")
    lookup.by_alias("net", "champion")
    assert authorization(http) == "Bearer secret-token"
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hidden")
    monkeypatch.setenv("MLFLOW_WORKSPACE", "team")
    lookup.by_alias("net", "champion")
    assert authorization(http) == basic("bob:hidden")
    assert {k.lower(): v for k, v in http.seen[-1][1].items()}["x-mlflow-workspace"] == "team"


def test_a_redirect_does_not_carry_the_credentials_away(http: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret-token")
    elsewhere = f"http://127.0.0.1:{http.server_port}/elsewhere"
    http.answer = (302, {"Location": elsewhere}, b"")
    with pytest.raises(UserError, match=f"redirects to {elsewhere}; give that address"):
        lookup.by_alias("net", "champion")
    assert len(http.seen) == 1


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (501, b"oops", "answered HTTP 501"),
        (200, b"<html>", "does not answer"),
        (404, b'{"error_code": "ENDPOINT_NOT_FOUND", "message": "no such"}', "HTTP 404 no such"),
    ],
)
def test_what_is_no_mlflow_server_is_told(http: Any, status: int, body: bytes, message: str) -> None:
    http.answer = (status, {}, body)
    with pytest.raises(UserError, match=f"MLFLOW_TRACKING_URI=http.*{message}"):
        lookup.by_alias("net", "champion")


def test_wrong_credentials_are_told(http: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a-wrong-secret")
    http.answer = (401, {}, b'{"message": "who are you"}')
    for ask in (client, lambda: lookup.by_alias("net", "champion")):
        with pytest.raises(UserError, match=r"not take these credentials.*MLFLOW_TRACKING_TOKEN") as caught:
            ask()
        assert "a-wrong-secret" not in str(caught.value)


PASSING = (408, 429, 500, 502, 503, 504)


@pytest.mark.usefixtures("printed_messages")
@pytest.mark.parametrize("status", PASSING)
def test_what_may_pass_is_asked_again(
    http: Any, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As MLflow's own client does, for the same answers."""
    from mlflow.utils.request_utils import _TRANSIENT_FAILURE_RESPONSE_CODES

    assert set(PASSING) == _TRANSIENT_FAILURE_RESPONSE_CODES
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    found = (404, {}, json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST"}).encode())
    http.answers = [(status, {}, b"oops"), (status, {"Retry-After": "7"}, b"oops"), found]
    assert lookup.by_version("net", "1") is None
    assert slept == [0, 7] and len(http.seen) == 3
    assert re.search(
        rf"127\.0\.0\.1:\d+ answered HTTP {status} .*; asking again in 7 s", capsys.readouterr().err
    )


def test_what_does_not_pass_is_told_as_it_was_answered(http: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    http.answer = (503, {}, b"")
    with pytest.raises(ServiceError, match=r"answered HTTP 503 .*; run this again when it is well") as caught:
        lookup.by_version("net", "1")
    assert slept == [0, 4, 8] and "does not answer" not in str(caught.value)


def test_a_slow_server_is_not_a_dead_one(http: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_http, "CONNECT_SECONDS", 0.3)
    http.seconds = 0.6
    http.answer = (404, {}, json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST"}).encode())
    assert lookup.by_version("net", "1") is None


def test_what_the_server_does_not_know_is_none(http: Any) -> None:
    http.answer = (404, {}, json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "gone"}).encode())
    assert lookup.by_version("net", "1") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_TRACKING_TOKEN", "canary\n"),
        ("REQUESTS_CA_BUNDLE", "absent.pem"),
        ("MLFLOW_TRACKING_CLIENT_CERT_PATH", "absent.pem"),
        ("MLFLOW_TRACKING_URI", "http://ann:canary@[::1"),
    ],
)
def test_what_cannot_be_used_is_named_and_no_secret_shown(
    project: Path,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://127.0.0.1:9")
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=name) as caught:
        lookup.by_version("net", "1")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("silent", [False, True])
def test_an_unreachable_server_is_told(
    project: Path,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
    silent: bool,
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if silent:  # it accepts, and never says a word
            listener.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:hidden@127.0.0.1:{listener.getsockname()[1]}")
        assert json_http.CONNECT_SECONDS <= 5
        monkeypatch.setattr(json_http, "ANSWER_SECONDS", 0.5)
        with pytest.raises(UserError, match=r"MLFLOW_TRACKING_URI=http://127\.0\.0\.1") as caught:
            client()
    assert "hidden" not in str(caught.value)
    assert "ann" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ann:pw@db:5432/mlflow", "postgresql://db:5432/mlflow"),
        ("https://token@host/path", "https://host/path"),
        ("see http://a:b@c@host now", "see http://host now"),
        ("postgresql://db/mlflow?user=ann&password=pw", "postgresql://db/mlflow?user=ann&password=***"),
        ("https://b/k?X-Amz-Signature=abc&x=1", "https://b/k?X-Amz-Signature=***&x=1"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3D%7BX%7D%3BPWD%3Dpw", "mssql+pyodbc:///?odbc_connect=***"),
        (
            "mssql:///?odbc_connect=DRIVER={X};UID=a;PWD=p,w;x=1",
            "mssql:///?odbc_connect=***;UID=a;PWD=***;x=1",
        ),
        ("https://h/cb#access_token=abc&state=1", "https://h/cb#access_token=***&state=1"),
        ("postgresql://ann:p/w@db:5432/mlflow", "postgresql://db:5432/mlflow"),
        ("postgresql://ann:1/w@db/mlflow in use", "postgresql://db/mlflow in use"),
        ("http://h:5000/#/models/net@champion", "http://h:5000/#/models/net@champion"),
        ("hdfs://name:8020/data@v1?keyword=x", "hdfs://name:8020/data@v1?keyword=x"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("models:/net@champion", "models:/net@champion"),
    ],
)
def test_no_address_shows_its_credentials(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def test_a_relative_database_is_made_absolute(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking_uri() == f"sqlite:///{project / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///below/runs.db")
    assert sqlite_path(tracking_uri()) == project / "below/runs.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////elsewhere/runs.db")
    assert sqlite_path(tracking_uri()) == Path("/elsewhere/runs.db")


@pytest.mark.slow
def test_many_processes_make_one_database(project: Path) -> None:
    """Without a template too, when the first to come has to let MLflow fill it while the others wait."""
    code = "from retrainer.services.database import ensure_database; ensure_database()"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RETRAINER_MLFLOW_TEMPLATE": str(project / "none")}
    many = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(8)]
    assert [process.wait() for process in many] == [0] * len(many)
    assert sorted(path.name for path in project.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
    fill()
    assert lookup.state("net") == {"champion": "1", "challenger": "2"}
