"""An S3 server that fails for a while is asked again, and what it answered is said: rclone behind a proxy."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import botocore.endpoint
import pytest

from retrainer.errors import UserError
from retrainer.services import s3, storage
from retrainer.services.checkpoint_store import CheckpointPlace
from retrainer.services.s3 import s3_client
from retrainer.settings import Source
from retrainer.training.checkpoints import Checkpoints
from tests.conftest import first_quick
from tests.s3_server import KEY, SECRET, running_s3
from tests.small_networks import same
from tests.training_cases import DIGEST, NEVER, Counted, images

pytestmark = pytest.mark.usefixtures("torch_settings_restored", "printed_messages")

SLOW_DOWN = (503, "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>")
ANSWERS = {
    "too-many-of-another-name": (429, "<Error><Code>TooManyRequests</Code><Message>-</Message></Error>"),
    "slow-down": SLOW_DOWN,
    "no-words": (503, ""),
    "internal": (500, "<Error><Code>InternalError</Code><Message>Sorry.</Message></Error>"),
    "gateway": (502, "<html>bad gateway</html>"),
    "too-many": (429, ""),
    "reset": (0, ""),
}
RESET = (0, "")
HALF = (-1, "")  # of an object, then a reset


class Proxy(ThreadingHTTPServer):
    """Passes requests on to `server`, but for the next ones in `failures`: status and body; 0 is a reset."""

    daemon_threads = True

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.server = server.removeprefix("http://")
        self.failures: deque[tuple[int, str]] = deque()
        self.down: tuple[int, str] | None = None  # so fail all others, but for the methods in `spared`
        self.spared: tuple[str, ...] = ()
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _pass_on(self) -> None:
        self.server.asked.append(self.command)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        down = None if self.command in self.server.spared else self.server.down
        failures = self.server.failures
        whole = self.command != "GET" or "?" in self.path
        failure = None if HALF in failures and whole else failures.popleft() if failures else down
        if failure is None:
            self._answer_of_server(body)
        elif failure == HALF:
            self._answer_of_server(body, share=0.5)
            self._reset()
        elif failure == RESET:
            self._reset()
        else:
            self._answer(failure[0], {}, failure[1].encode())

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _answer_of_server(self, body: bytes, share: float = 1.0) -> None:
        connection = http.client.HTTPConnection(self.server.server, timeout=30)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        with closing(connection):
            answer = connection.getresponse()
            self._answer(answer.status, dict(answer.getheaders()), answer.read(), share)

    def _answer(self, status: int, headers: dict[str, str], body: bytes, share: float = 1.0) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = headers.get("Content-Length", str(len(body))) if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: int(share * len(body))])

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "s3" / "bucket").mkdir(parents=True)
    with running_s3(folder, "--vfs-write-back", "0", "--dir-cache-time", "0") as (address, root):
        (root / "bucket" / "rows.csv").write_text("text,label\ngood,yes\n")
        yield address, root / "bucket"


@pytest.fixture
def proxy(server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    made = Proxy(server[0])
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    for name, value in {
        "AWS_ENDPOINT_URL": made.address,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS"):
        monkeypatch.delenv(name, raising=False)
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What botocore would have waited, in seconds: nobody waits."""
    waited: list[float] = []
    still = SimpleNamespace(sleep=waited.append, monotonic=time.monotonic)
    monkeypatch.setattr(botocore.endpoint, "time", still)
    monkeypatch.setattr(s3, "time", still, raising=False)
    return waited


ROWS = Source(path="s3://bucket/rows.csv")


@pytest.mark.parametrize("kind", first_quick(ANSWERS))
def test_a_source_outlasts_a_server_that_fails_for_a_while(
    proxy: Proxy, waits: list[float], kind: str, tmp_path: Path
) -> None:
    proxy.failures.extend([ANSWERS[kind]] * 5)
    assert len(storage.digest(ROWS)) == 64
    assert len(waits) == 5 and not proxy.failures
    proxy.failures.extend([ANSWERS[kind]] * 5)
    assert storage.fetch(ROWS.path, tmp_path).read_text() == "text,label\ngood,yes\n"


@pytest.mark.slow
def test_a_download_that_breaks_off_again_and_again_is_begun_anew(
    proxy: Proxy, waits: list[float], tmp_path: Path
) -> None:
    proxy.failures.extend([HALF] * 8)
    assert storage.fetch(ROWS.path, tmp_path).read_text() == "text,label\ngood,yes\n"
    assert not proxy.failures and len(waits) == 1


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("slow-down", r"it answered 503 SlowDown to each of 8 tries"),
        pytest.param("too-many", r"it answered 429 to each of 8 tries", marks=pytest.mark.slow),
    ],
)
def test_what_was_answered_is_said(
    proxy: Proxy, waits: list[float], kind: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    proxy.down = ANSWERS[kind]
    words = rf"source\.path: s3://bucket/rows\.csv .*{said}.*server is there"
    with pytest.raises(UserError, match=words) as caught:
        storage.digest(ROWS)
    assert "credentials" not in str(caught.value) and SECRET not in str(caught.value)
    assert len(proxy.asked) == 8 and 0 < sum(waits) < 71
    err = capfd.readouterr().err
    assert err.count("asking again") == 1 and f"S3 at {proxy.address}: it answered" in err


def test_one_failure_is_everyday_and_not_told(proxy: Proxy, capfd: pytest.CaptureFixture[str]) -> None:
    proxy.failures.append(SLOW_DOWN)
    storage.digest(ROWS)
    assert capfd.readouterr().err == ""


def test_wrong_keys_are_asked_once(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-secret")
    with pytest.raises(UserError, match="the credentials"):
        storage.digest(ROWS)
    assert len(proxy.asked) == 1


@pytest.mark.slow
def test_aws_own_variables_say_how_often(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy.down = SLOW_DOWN
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    with pytest.raises(UserError, match="each of 2 tries"):
        storage.digest(ROWS)
    assert len(proxy.asked) == 2
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "often")
    with pytest.raises(UserError, match="AWS_MAX_ATTEMPTS=often"):
        storage.digest(ROWS)


def test_slow_is_not_dead(proxy: Proxy) -> None:
    assert proxy.address
    assert s3_client().meta.config.read_timeout == 60


# --- checkpoints ---------------------------------------------------------------------------------------

CASE = images()


def test_a_resume_outlasts_it_in_its_first_question_and_at_the_download(
    proxy: Proxy, capfd: pytest.CaptureFixture[str]
) -> None:
    place = CheckpointPlace("s3://bucket/resumed", NEVER)
    assert CASE.stopped(place, after_losses=8) is None
    proxy.failures.extend([SLOW_DOWN] * 5)
    proxy.asked.clear()
    assert same(CASE.run()[0], CASE.run(Checkpoints(place, DIGEST))[0])
    assert "going on from epoch" in capfd.readouterr().err
    assert proxy.asked[:6] == ["GET"] * 6


def test_a_resume_that_cannot_ask_does_not_start_over(proxy: Proxy) -> None:
    """It would lose the hours that lie there."""
    proxy.down = SLOW_DOWN
    with pytest.raises(UserError, match=r"RETRAINER_CHECKPOINTS=s3://bucket/kept/.* 503 SlowDown"):
        CASE.run(Checkpoints(CheckpointPlace("s3://bucket/kept", NEVER), DIGEST))


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_ends_no_training_and_the_next_one_is(
    proxy: Proxy, server: tuple[str, Path], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    place = CheckpointPlace("s3://bucket/written", 1e-9)
    checkpoints = Checkpoints(place, DIGEST)
    events = iter((lambda: setattr(proxy, "down", SLOW_DOWN), lambda: setattr(proxy, "down", None)))
    seen: list[str] = []

    def next_event() -> None:
        checkpoints.close()
        next(events)()
        seen.extend(path.name for path in server[1].glob("written/*/*.pt"))

    learner = Counted(Counted(CASE.task, 6, next_event), 12, next_event)
    assert same(CASE.run()[0], CASE.run(checkpoints, learner)[0])
    said = capfd.readouterr().err
    assert "no checkpoint could be written (RETRAINER_CHECKPOINTS=s3://bucket/written" in said
    assert "503 SlowDown" in said and "the training goes on" in said
    after = {path.name for path in server[1].glob("written/*/*.pt")}
    assert after - set(seen), "the next one was written"


def test_a_written_checkpoint_counts_although_older_ones_cannot_be_removed(
    proxy: Proxy, server: tuple[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    proxy.down, proxy.spared = SLOW_DOWN, ("PUT",)
    place = CheckpointPlace("s3://bucket/leaving", NEVER)
    state = {"epoch": 3, "step": 4}
    checkpoints = Checkpoints(place, DIGEST)
    checkpoints._write(state)
    said = capfd.readouterr().err
    assert list(server[1].glob(f"leaving/{DIGEST}/000003-000000004-*.pt"))
    assert "older checkpoints cannot be removed" in said and "no checkpoint" not in said
