"""The connection to Kubeflow: who we are, and what is said of an address that is dead, slow or refuses."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from pipelines.cluster import connection as cluster
from pipelines.cluster.connection import Connection, Refused, connect
from pipelines.cluster.cron import parse_cron
from pipelines.cluster.schedule import remove, replace
from pipelines.cluster.submit import start
from pipelines.compile import compile_recipe, images_named
from retrainer.errors import UserError
from tests.cluster_run import with_our_settings
from tests.kfp_api import Api, running_api

CANARY = "canary-5f1c-never-print-me"
IMAGES = images_named("registry.example/retrainer@sha256:" + "a" * 64)
Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "KFP_TOKEN",
        "KFP_TOKEN_FILE",
        "KFP_NAMESPACE",
        "KFP_CA_BUNDLE",
        "KF_PIPELINES_SA_TOKEN_PATH",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("ISSUER", "TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET", "SCOPE", "AUDIENCE"):
        monkeypatch.delenv(f"KFP_OIDC_{name}", raising=False)


@contextmanager
def web_server(answer: Answer) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def handle_any(self) -> None:
            with suppress(OSError):
                answer(self)

        do_GET = do_POST = handle_any

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def page(status: int, kind: str, text: str, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content-Type": kind, **headers}.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(text)))
        request.end_headers()
        request.wfile.write(text.encode())

    return answer


def drip(request: BaseHTTPRequestHandler) -> None:
    """A byte a second, so that no timeout between two bytes ends it."""
    request.send_response(200)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", "1000")
    request.end_headers()
    for _ in range(60):
        request.wfile.write(b" ")
        request.wfile.flush()
        time.sleep(1)


def silence(_: BaseHTTPRequestHandler) -> None:
    time.sleep(60)


LOGIN = "<html><body>Log in to Example</body></html>"
ERROR = json.dumps({"code": 13, "message": "the database is away", "details": []})
CASES: dict[str, tuple[Answer | None, str]] = {
    "refused": (None, r"does not answer \(.*refused.*\); check the address"),
    "silent": (silence, r"does not answer \(no whole answer within 6 s\)"),
    "dripping": (drip, r"does not answer \(no whole answer within 6 s\)"),
    "401": (
        page(401, "text/plain", "Jwt is missing"),
        r"HTTP 401, this token is not accepted; renew KFP_TOKEN",
    ),
    "403": (page(403, "text/html", LOGIN), r"HTTP 403, this token is not accepted.*KFP_NAMESPACE"),
    "404": (
        page(404, "text/html", LOGIN),
        r"is not the API of Kubeflow Pipelines \(HTTP 404\).*apis/v2beta1",
    ),
    "500": (page(500, "application/json", ERROR), r"fails: HTTP 500: the database is away; try again"),
    "502": (page(502, "text/html", "<h1>Bad Gateway</h1>"), r"fails: HTTP 502; try again"),
    "html": (
        page(200, "text/html; charset=utf-8", LOGIN),
        r"answers text/html instead of JSON.*set KFP_TOKEN",
    ),
    "not json": (page(200, "application/json", "oops"), r"answers application/json instead of JSON"),
    "redirect": (
        page(302, "text/html", LOGIN, Location=f"https://dex.example/auth?state={CANARY}"),
        r"redirects to https://dex.example/auth\).*set KFP_TOKEN",
    ),
}


@contextmanager
def black_hole() -> Iterator[str]:
    """A listener whose queue is full: a connection is never accepted nor refused."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        held = [socket.socket() for _ in range(4)]
        try:
            for each in held:
                each.setblocking(False)
                with suppress(BlockingIOError):
                    each.connect(listener.getsockname())
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            for each in held:
                each.close()


def told(address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a listing says of the address."""
    monkeypatch.setenv("KFP_ENDPOINT", address)
    monkeypatch.setenv("KFP_TOKEN", CANARY)
    connection = connect()
    with pytest.raises(UserError) as caught:
        connection.find_schedules()
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["refused", "401", "403", "404", "500", "502", "html", "not json", "redirect"]
)
def test_what_refuses_is_told_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, expected = CASES[name]
    with web_server(answer or silence) as address:
        pass
    if answer is None:
        said = told(address, monkeypatch)
    else:
        with web_server(answer) as address:
            said = told(address, monkeypatch)
    check(said, expected, address)


def check(said: str, expected: str, address: str) -> None:
    assert f"KFP_ENDPOINT={address}" in said
    assert re.search(expected, said), said
    assert CANARY not in said and "\n" not in said


@pytest.mark.slow
def test_what_is_slow_or_dead_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command against every such address, all at once, with the real time limits."""
    project = with_our_settings(tmp_path)
    compiled = compile_recipe("digits-mlp", ["cluster.mlflow_secret=mlflow"], IMAGES, project)
    nightly = parse_cron("0 0 3 * * *")
    commands: list[Callable[[Connection], object]] = [
        lambda connection: start(connection, compiled),
        lambda connection: replace(connection, compiled, nightly),
        lambda connection: remove(connection, "retrainer-digits-mlp"),
        lambda connection: connection.find_schedules("1"),
    ]
    said: list[str] = []
    with (
        web_server(silence) as silent,
        web_server(drip) as dripping,
        web_server(Fading("digits-mlp")) as fading,
        black_hole() as hole,
    ):
        calls = []
        for address in (silent, dripping, fading, hole):
            monkeypatch.setenv("KFP_ENDPOINT", address)
            monkeypatch.setenv("KFP_TOKEN", CANARY)
            calls += [(command, connect()) for command in commands]
        threads = [threading.Thread(target=note, args=(*call, said), daemon=True) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(said) == len(calls)
    assert all("KFP_ENDPOINT=http://127.0.0.1" in line and "does not answer" in line for line in said)
    assert CANARY not in "".join(said)


def note(command: Callable[[Connection], object], connection: Connection, said: list[str]) -> None:
    with suppress(BaseException):
        try:
            command(connection)
        except UserError as error:
            said.append(str(error))


class Fading:
    """Knows the experiment, and is silent about all else."""

    def __init__(self, experiment: str) -> None:
        found = {"experiments": [{"experiment_id": "1", "display_name": experiment}]}
        self.answers = {"/apis/v2beta1/experiments": found}

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        answer = self.answers.get(request.path.partition("?")[0])
        if request.command == "GET" and answer is not None:
            return page(200, "application/json", json.dumps(answer))(request)
        return silence(request)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("", "KFP_ENDPOINT is not set"),
        ("kubeflow.example", "should begin with https://"),
        (f"https://me:{CANARY}@kubeflow.example", "holds a user or a password.*KFP_TOKEN"),
    ],
)
def test_an_address_that_cannot_be_one(address: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_ENDPOINT", address)
    with pytest.raises(UserError, match=expected) as caught:
        connect()
    assert CANARY not in str(caught.value)


def test_a_bundle_without_certificates_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_ENDPOINT", "https://kubeflow.example")
    for name in ("absent.pem", "empty.pem"):
        monkeypatch.setenv("KFP_CA_BUNDLE", str(tmp_path / name))
        (tmp_path / "empty.pem").write_text("no certificate")
        with pytest.raises(UserError, match=f"KFP_CA_BUNDLE=.*{name} holds no certificates"):
            connect()


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    with running_api() as running:
        monkeypatch.setenv("KFP_ENDPOINT", running.address + "/")
        running.token = CANARY
        yield running


def test_the_token_comes_from_the_environment_or_a_file_that_is_rotated(
    api: Api,  # noqa: ARG001 (its address is in the environment)
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(Refused, match=r"HTTP 401, it wants to know who asks.*set KFP_TOKEN"):
        connect().find_schedules()
    monkeypatch.setenv("KFP_TOKEN", f"{CANARY}\n")
    assert connect().find_schedules() == []
    monkeypatch.delenv("KFP_TOKEN")
    path = tmp_path / "token"
    path.write_text("expired\n")
    monkeypatch.setenv("KFP_TOKEN_FILE", str(path))
    connection = connect()
    with pytest.raises(Refused, match="this token is not accepted"):
        connection.find_schedules()
    path.write_text(f"{CANARY}\n")
    assert connection.find_schedules() == []
    path.unlink()
    with pytest.raises(UserError, match=r"KFP_TOKEN_FILE=.* cannot be read"):
        connection.find_schedules()


def test_in_a_pod_its_own_token_serves(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text(CANARY)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    assert connect().find_schedules() == []
    assert api.requests[-1][2]["authorization"] == f"Bearer {CANARY}"


class Provider:
    """An identity provider: discovery, and a token endpoint that takes one client's credentials."""

    def __init__(self, tokens: list[str], expires_in: int = 3600) -> None:
        self.tokens, self.expires_in, self.asked = tokens, expires_in, 0

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        host = f"http://{request.headers['Host']}"
        if request.command == "GET":
            found = {"issuer": host, "token_endpoint": f"{host}/token"}
            known = request.path == "/.well-known/openid-configuration"
            return page(200 if known else 404, "application/json", json.dumps(found))(request)
        fields = parse_qs(request.rfile.read(int(request.headers["Content-Length"])).decode())
        self.asked += 1
        if fields["grant_type"] != ["client_credentials"] or fields["client_secret"] != [CANARY]:
            return page(401, "application/json", json.dumps({"error": "invalid_client"}))(request)
        made = {"access_token": self.tokens[0], "token_type": "Bearer", "expires_in": self.expires_in}
        if len(self.tokens) > 1:
            self.tokens.pop(0)
        return page(200, "application/json", json.dumps(made))(request)


def as_client(monkeypatch: pytest.MonkeyPatch, issuer: str, secret: str) -> None:
    monkeypatch.setenv("KFP_OIDC_ISSUER", issuer)
    monkeypatch.setenv("KFP_OIDC_CLIENT_ID", "retrainer")
    monkeypatch.setenv("KFP_OIDC_CLIENT_SECRET", secret)


def test_a_token_from_the_identity_provider_is_kept_while_it_lasts(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = Provider([CANARY])
    with web_server(provider) as issuer:
        as_client(monkeypatch, issuer, CANARY)
        connection = connect()
        for _ in range(3):
            assert connection.find_schedules() == []
    assert provider.asked == 1 and api.requests[-1][2]["authorization"] == f"Bearer {CANARY}"


def test_a_token_that_has_expired_is_fetched_anew(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider(["first", "second"], expires_in=1)
    with web_server(provider) as issuer:
        as_client(monkeypatch, issuer, CANARY)
        connection = connect()
        api.token = "first"
        assert connection.find_schedules() == []
        api.token = "second"
        assert connection.find_schedules() == []


def test_what_the_identity_provider_refuses_is_told_without_the_secret(
    api: Api,  # noqa: ARG001 (its address is in the environment)
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = f"{CANARY}-wrong"
    with web_server(Provider([CANARY])) as issuer:
        as_client(monkeypatch, issuer, wrong)
        with pytest.raises(UserError, match=r"HTTP 401.*KFP_OIDC_CLIENT_SECRET") as caught:
            connect().find_schedules()
        assert CANARY not in str(caught.value)
        as_client(monkeypatch, f"{issuer}/realm", CANARY)
        with pytest.raises(UserError, match=r"KFP_OIDC_ISSUER: .*HTTP 404.*correct the address"):
            connect().find_schedules()
    as_client(monkeypatch, issuer, CANARY)
    with pytest.raises(UserError, match=r"KFP_OIDC_ISSUER: .*refused"):
        connect().find_schedules()
    for missing in ("KFP_OIDC_CLIENT_SECRET", "KFP_OIDC_ISSUER"):
        as_client(monkeypatch, issuer, CANARY)
        monkeypatch.delenv(missing)
        with pytest.raises(UserError, match=missing):
            connect()


def test_the_namespace_is_asked_for_by_name(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_TOKEN", CANARY)
    monkeypatch.setenv("KFP_NAMESPACE", "team")
    connection = connect()
    connection.find_schedules()
    assert api.queries[-1][2]["namespace"] == "team"
    assert api.experiments[connection.experiment_id("x", create=True)]["namespace"] == "team"


def test_connecting_asks_nobody_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KFP_ENDPOINT", "http://127.0.0.1:9")
    cluster.connect()
    assert list(tmp_path.iterdir()) == []
