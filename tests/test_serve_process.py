"""`make serve` as a process: asked over HTTP by many at once, and ended while a request is in flight."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from retrainer.formats.dataset import Dataset
from retrainer.predict import Predictor
from tests.champions import Project, in_a_copy
from tests.conftest import ROOT
from tests.serving_process import ask, records, served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]


@pytest.fixture
def project(three_versions: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return in_a_copy(three_versions, tmp_path, monkeypatch)


def check_answers(project: Project, port: int) -> None:
    """Asked by eight at once, each row has the answer that the model directory gives."""
    rows, predictor = records(project), Predictor.load(project.folder / "model-1")
    expected = predictor.predict(Dataset(project.dataset).split("test")).to_pylist()

    def one(number: int) -> None:
        status, answer = ask(port, {"dataframe_records": [rows[number % len(rows)]]})
        (found,), own = answer["predictions"], expected[number % len(rows)]
        assert status == 200 and found["label"] == own["label"]
        assert found["probabilities"] == pytest.approx(own["probabilities"], abs=1e-6)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(200)))


def check_forms(project: Project, port: int) -> None:
    rows = records(project)
    whole = ask(port, {"dataframe_records": rows})[1]["predictions"]
    for body in ({"inputs": {"image": [row["image"] for row in rows]}}, {"instances": rows}):
        assert ask(port, body) == (200, {"predictions": whole})
    status, answer = ask(port, {"dataframe_records": rows, "params": {"top_k": 1}})
    assert status == 200 and all(len(row["probabilities"]) == 1 for row in answer["predictions"])


def without_content_type(port: int, body: Any, path: str, **headers: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, json.dumps(body).encode(), headers)
    answer = connection.getresponse()
    found = answer.status, json.load(answer)
    connection.close()
    return found


def check_kserves_addresses(project: Project, port: int) -> None:
    """What KServe's graphs, batcher, transformers and clients ask (v0.20.0, pkg/constants/constants.go)."""
    body = {"instances": records(project)[:2]}
    assert ask(port, body, path="/v1/models/net:predict") == ask(port, body)
    # As the batcher asks.
    assert without_content_type(port, body, "/v1/models/net:predict") == ask(port, body)
    assert without_content_type(port, body, "/invocations")[0] == 415
    # As a page of another site can.
    assert without_content_type(port, body, "/v1/models/net:predict", Origin="http://a.example")[0] == 415
    status, answer = ask(port, {"instances": [{"text": "a"}]}, path="/v1/models/net:predict")
    assert status == 400 and answer["message"].startswith("Model is missing inputs ['image']")
    assert ask(port, None, path="/v1/models/net") == (200, {"name": "net", "ready": True})
    assert ask(port, None, path="/v1/models/net:predict")[0] == 405


def check_errors(port: int) -> None:
    for body, status, reason in (
        ({"dataframe_records": [{"text": "a"}]}, 400, "Model is missing inputs ['image']"),
        ({"dataframe_records": [{"image": "bm90aGluZw=="}]}, 400, "row 0: "),
        ({"dataframe_records": [{"image": "bm90"}], "params": {"top_k": -3}}, 400, "top_k is -3: "),
        ({"rows": []}, 400, "The input must be a JSON dictionary"),
        (b"{", 400, "Ensure that input is a valid JSON formatted string"),
    ):
        assert ask(port, body)[0] == status
        assert ask(port, body)[1]["message"].startswith(reason), ask(port, body)
    assert ask(port, b"x", "text/plain")[0] == 415


def check_documented_client(project: Project, port: int) -> None:
    """The page's own code, asked for one picture and for none."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/serve.md").read_text(), re.M | re.S)
    client: dict[str, Any] = {}
    exec(code.replace(":8080", f":{port}"), client)
    (answer,) = client["ask"](records(project)[:1], top_k=1)
    assert len(answer["probabilities"]) == 1
    with pytest.raises(ValueError, match=r"^Model is missing inputs"):
        client["ask"]([{"text": "a"}])


def half_sent(port: int, body: bytes) -> http.client.HTTPConnection:
    """A request that the server has begun to read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest("POST", "/invocations")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    connection.send(body[:10])
    time.sleep(0.5)  # until it has been read
    return connection


def check_drained(project: Project, process: subprocess.Popen[str], port: int, end: signal.Signals) -> None:
    """The signal comes in the middle of a request, which is answered; a new one is refused meanwhile."""
    body = json.dumps({"dataframe_records": records(project)}).encode()
    connection = half_sent(port, body)
    process.send_signal(end)
    time.sleep(1.5)
    assert process.poll() is None
    if end == signal.SIGTERM:  # with workers the parent's socket stays open until they have ended
        with pytest.raises(OSError, match="refused"):
            ask(port, {})
    connection.send(body[10:])
    answer = connection.getresponse()
    assert answer.status == 200 and len(json.load(answer)["predictions"]) == len(records(project))
    answer.close()
    connection.close()
    assert process.wait(timeout=60) == 0
    assert not list((project.folder / "tmp").glob("retrainer-*"))


def test_a_server_answers_explains_and_ends_when_it_has_answered(project: Project) -> None:
    with served(project.folder, page=True) as (process, port, printed):
        page = psutil.Process(process.pid).children()
        (line,) = [line for line in printed if line.startswith("curl ")]
        done = subprocess.run(["sh", "-c", f"{line} -s"], capture_output=True, text=True, check=True)
        assert list(json.loads(done.stdout)["predictions"][0]) == ["label", "probabilities"]
        listening = [
            one.laddr.ip for one in psutil.Process(process.pid).net_connections() if one.status == "LISTEN"
        ]
        assert listening == ["127.0.0.1"]
        check_answers(project, port)
        check_forms(project, port)
        check_kserves_addresses(project, port)
        check_errors(port)
        check_documented_client(project, port)
        check_drained(project, process, port, signal.SIGTERM)
        assert len(page) == 1 and not page[0].is_running()


def test_workers_end_when_they_have_answered(project: Project) -> None:
    with served(project.folder, "--workers", "2") as (process, port, _):
        workers = [
            one for one in psutil.Process(process.pid).children() if "spawn_main" in " ".join(one.cmdline())
        ]
        assert len(workers) == 2
        check_answers(project, port)
        check_drained(project, process, port, signal.SIGINT)
    assert not psutil.wait_procs(workers, timeout=30)[1]


def test_workers_end_with_the_server_that_is_killed(project: Project) -> None:
    with served(project.folder, "--workers", "2") as (process, _, __):
        children = psutil.Process(process.pid).children()
        process.kill()
        assert not psutil.wait_procs(children, timeout=30)[1]
