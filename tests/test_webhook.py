"""Notifications against receivers that fail in every way: no run fails, none is lost, no address shown."""

from __future__ import annotations

import json
import logging
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from retrainer.errors import UserError
from retrainer.notify.deliver import deliver
from retrainer.notify.event import Event
from retrainer.notify.local import Notifier
from retrainer.services import webhook
from retrainer.services.outbox import FOLDER, FolderOutbox
from retrainer.services.webhook import Patience
from tests import webhook_server as ways
from tests.conftest import ROOT
from tests.mlflow_server import free_port
from tests.package_index import make_certificate
from tests.webhook_server import CANARY, Server, Waits, receiver

PATIENCE = Patience(first_wait=0.0, answer_seconds=0.2, total_seconds=0.8, pause=lambda _: None)

FAILING = {
    "500": ways.status(500),
    "501": ways.status(501),
    "502": ways.status(502, "<html>bad gateway</html>"),
    "503 until a date": ways.later,
    "429 for an hour": ways.status(429, Retry_After="3600"),
    "429 for a strange time": ways.status(429, Retry_After="soon"),
    "400": ways.status(400, "invalid_payload"),
    "403 that echoes the address": ways.echo,
    "404": ways.status(404, "no_service"),
    "410": ways.status(410, "channel_is_archived"),
    "200 that failed inside": ways.status(
        200, "Microsoft Teams endpoint returned HTTP error 429 with ContextId x"
    ),
    "reset": ways.reset,
    "hangs up": ways.hang_up,
    "never answers": ways.hang,
    "garbage": ways.garbage,
    "a status line for ever": ways.drip(b"HTTP/1.1 200 "),
    "headers for ever": ways.drip(b"HTTP/1.1 200 OK\r\nX-Slow: "),
    "a body for ever": ways.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n"),
    "an answer larger than memory": ways.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999\r\n\r\n"),
    "redirects elsewhere": None,
    "TLS that nobody trusts": None,
    "no TLS": None,
    "a closed port": None,
    "an unknown host": None,
    "a proxy that refuses": None,
}


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().endswith("_PROXY")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@contextmanager
def failing(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a receiver that fails so."""
    path = f"/services/{CANARY}?sig={CANARY}"
    if FAILING[way] is not None:
        with receiver(FAILING[way]) as server:
            yield server.url
    elif way == "redirects elsewhere":
        with receiver() as other, receiver(ways.status(302, Location=other.url)) as server:
            yield server.url
            assert not other.paths, "the next address would learn what this one was told"
    elif way == "TLS that nobody trusts":
        with receiver(certificate=make_certificate(tmp_path)) as server:
            yield server.url.replace("http:", "https:")
    elif way == "no TLS":
        with receiver() as server:
            yield server.url.replace("http:", "https:")
    elif way == "a closed port":
        yield f"http://user:{CANARY}@127.0.0.1:{free_port()}{path}"
    elif way == "an unknown host":
        yield f"https://{CANARY}.invalid{path}"
    else:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:{CANARY}@127.0.0.1:{free_port()}")
        yield f"https://hooks.slack.com{path}"


def an_event(**about: object) -> Event:
    event = Event(
        "promoted", secrets.token_hex(8), "mine", "2026-11-26T03:00:00+00:00", model="m", version="3"
    )
    return replace(event, **about)  # type: ignore[arg-type]


def test_there_are_twenty_ways_to_fail() -> None:
    assert len(FAILING) >= 20


@pytest.mark.parametrize("way", FAILING)
def test_a_failing_receiver_costs_no_run_and_loses_nothing(
    way: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    event, outbox = an_event(), FolderOutbox(tmp_path)
    with failing(way, tmp_path, monkeypatch) as address:
        monkeypatch.setenv("RETRAINER_WEBHOOK", address)
        delivery = deliver(event, outbox, PATIENCE)
    assert not delivery.complete and delivery.kept
    assert "'promoted' was not delivered (" in delivery.line and "kept in .undelivered/" in delivery.line
    left = [path.read_text() for path in (tmp_path / FOLDER).iterdir()]
    assert [json.loads(text)["id"] for text in left] == [event.id]

    printed = capfd.readouterr()
    for shown in (delivery.line, printed.out, printed.err, caplog.text, *left):
        assert CANARY not in shown

    with receiver() as server:
        monkeypatch.setenv("RETRAINER_WEBHOOK", server.url)
        late = deliver(None, outbox, PATIENCE)
    assert late.complete and late.line == "webhook: older ones delivered: 1"
    assert [body["id"] for body in server.got] == [event.id]
    assert not list((tmp_path / FOLDER).iterdir())


def test_twenty_events_while_it_fails_arrive_when_it_works_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [an_event(time=f"2026-11-{day:02}T03:00:00+00:00") for day in range(1, 21)]
    outbox = FolderOutbox(tmp_path)
    with receiver(ways.status(500)) as server:
        monkeypatch.setenv("RETRAINER_WEBHOOK", server.url)
        for event in events:
            assert deliver(event, outbox, PATIENCE).kept
    with receiver() as server:
        monkeypatch.setenv("RETRAINER_WEBHOOK", server.url)
        now = an_event()
        delivery = deliver(now, outbox, PATIENCE)
    assert delivery.line == "webhook: 'promoted' was delivered; older ones delivered: 20"
    assert [body["id"] for body in server.got] == [now.id, *(event.id for event in reversed(events))]


def test_what_waits_is_sent_until_one_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = FolderOutbox(tmp_path)
    for _ in range(3):
        outbox.keep(an_event().plain())
    with receiver() as server:
        server.way = lambda handler: handler.answer(200 if len(server.got) == 1 else 404)
        monkeypatch.setenv("RETRAINER_WEBHOOK", server.url)
        delivery = deliver(None, outbox, PATIENCE)
    assert delivery.line == "webhook: older ones delivered: 1; others still wait (HTTP 404)"
    assert len(server.got) == 2 and len(list(outbox.waiting())) == 2


def test_a_kill_while_it_is_sent_loses_nothing(tmp_path: Path) -> None:
    """The file is there before the first byte is sent."""
    code = """
import secrets, sys
from pathlib import Path
from retrainer.notify.local import Notifier
Notifier("mine", Path(sys.argv[1])).failed("train", 137, "killed")
"""
    with receiver(ways.hang) as server:
        environment = os.environ | {"RETRAINER_WEBHOOK": server.url}
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env=environment)
        until = time.monotonic() + 60
        while not server.got and time.monotonic() < until:
            time.sleep(0.02)
        process.kill()
        process.wait()
    (told,) = [json.loads(path.read_text()) for path in (tmp_path / FOLDER).iterdir()]
    assert told["id"] == server.got[0]["id"] and told["step"] == "train"


def test_what_cannot_be_kept_either_is_said_to_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FOLDER).write_text("a file where the folder should be")
    monkeypatch.setenv("RETRAINER_WEBHOOK", f"http://127.0.0.1:{free_port()}")
    delivery = deliver(an_event(), FolderOutbox(tmp_path), PATIENCE)
    assert not delivery.kept and "LOST" in delivery.line


def test_without_a_webhook_nothing_is_written_or_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RETRAINER_WEBHOOK", raising=False)
    assert Notifier("mine", tmp_path).failed("train", 1) == ""
    assert not list(tmp_path.iterdir())


def test_files_of_somebody_else_do_not_stand_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = FolderOutbox(tmp_path)
    outbox.keep(an_event().plain())
    for number, text in enumerate(("", "[]", "{", '{"format_version": 1}', '{"format_version": 99}')):
        (tmp_path / FOLDER / f"{number:016x}.json").write_text(text)
    (tmp_path / FOLDER / "notes.txt").write_text("mine")
    with receiver() as server:
        monkeypatch.setenv("RETRAINER_WEBHOOK", server.url)
        assert deliver(None, outbox, PATIENCE).line == "webhook: older ones delivered: 1"
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["notes.txt"]


def hook(server: Server) -> webhook.Webhook:
    return webhook.Webhook(server.url, "json")


def test_it_waits_longer_each_time_and_as_long_as_it_is_asked_to() -> None:
    waits = Waits()
    patience = Patience(tries=4, first_wait=1.0, total_seconds=60, pause=waits)
    answers = iter([ways.status(500), ways.status(429, Retry_After="7"), ways.status(503), ways.taken])
    with receiver() as server:
        server.way = lambda handler: next(answers)(handler)
        assert webhook.send(hook(server), {"a": 1}, patience) == ""
    assert waits.seconds == [1.0, 7.0, 4.0]
    assert server.got == [{"a": 1}] * 4


@pytest.mark.parametrize("code", [301, 302, 307, 308, 400, 401, 403, 404, 405, 410, 413, 501])
def test_what_will_not_change_is_asked_once(code: int) -> None:
    with receiver(ways.status(code, Location="http://127.0.0.1:9/")) as server:
        assert f"HTTP {code}" in webhook.send(hook(server), {}, PATIENCE)
    assert len(server.got) == 1


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_asked_again(code: int) -> None:
    with receiver(ways.status(code)) as server:
        assert webhook.send(hook(server), {}, PATIENCE) == f"HTTP {code}, tried 4 times"
    assert len(server.got) == 4


def test_it_does_not_wait_an_hour() -> None:
    waits = Waits()
    with receiver(ways.status(429, Retry_After="3600")) as server:
        reason = webhook.send(hook(server), {}, replace(PATIENCE, pause=waits))
    assert reason == "HTTP 429, and the next try would be in 3600 s"
    assert waits.seconds == [] and len(server.got) == 1


def test_a_companys_certificate_is_trusted_where_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(made[0]))
    with receiver(certificate=made) as server:
        secure = replace(hook(server), url=server.url.replace("http:", "https:"))
        assert webhook.send(secure, {"a": 1}, replace(PATIENCE, answer_seconds=5, total_seconds=20)) == ""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "absent.pem"))
    assert webhook.send(secure, {}, PATIENCE) == (
        f"REQUESTS_CA_BUNDLE={tmp_path / 'absent.pem'} names no file of certificates"
    )


def test_a_name_and_password_in_the_address_become_a_header() -> None:
    seen: list[str] = []

    def way(handler: ways.Handler) -> None:
        seen.append(handler.headers["Authorization"])
        ways.taken(handler)

    with receiver(way) as server:
        url = server.url.replace("http://", "http://user:pass%40word@")
        assert webhook.send(webhook.Webhook(url, "json"), {}, PATIENCE) == ""
    assert seen == ["Basic dXNlcjpwYXNzQHdvcmQ="]


@pytest.mark.parametrize(
    ("address", "format"),
    [
        ("https://hooks.slack.com/services/T/B/x", "slack"),
        ("https://hooks.slack-gov.com/services/T/B/x", "slack"),
        ("https://acme.webhook.office.com/webhookb2/x", "teams"),
        ("https://prod-12.westeurope.logic.azure.com:443/workflows/x?sig=y", "teams"),
        ("https://0a.1b.environment.api.powerplatform.com:443/powerautomate/x", "teams"),
        ("https://HOOKS.SLACK.COM/services/x", "slack"),
        ("https://hooks.slack.com.evil.example/services/x", "json"),
        ("https://nothooks.slack.com.example/x", "json"),
        ("https://myhooks.slack.com/x", "json"),
        ("https://chat.example/hooks/x", "json"),
        ("http://127.0.0.1:9/x", "json"),
        ("http://[::1]:9/x", "json"),
        ("http://localhost:9/x", "json"),
    ],
)
def test_the_host_says_which_format(address: str, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRAINER_WEBHOOK", address)
    found = webhook.configured()
    assert found is not None and found.format == format
    assert address not in repr(found)
    monkeypatch.setenv("RETRAINER_WEBHOOK_FORMAT", "slack")
    assert (chosen := webhook.configured()) is not None and chosen.format == "slack"


@pytest.mark.parametrize(
    "address",
    [
        CANARY,
        f"ftp://host/{CANARY}",
        f"file:///etc/{CANARY}",
        f"https:///{CANARY}",
        f"https://host:port/{CANARY}",
        f"https://[host/{CANARY}",
        f"https://host/{CANARY} with a space",
        f"https://host/{CANARY}é",
        f"http://chat.example/{CANARY}",
        f"http://10.0.0.1/{CANARY}",
    ],
)
def test_an_address_that_cannot_be_right_is_refused_unseen(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRAINER_WEBHOOK", address)
    with pytest.raises(UserError) as refused:
        webhook.configured()
    assert "RETRAINER_WEBHOOK" in str(refused.value) and CANARY not in str(refused.value)
    delivery = deliver(an_event(), FolderOutbox(tmp_path), PATIENCE)
    assert delivery.kept and CANARY not in delivery.line


def test_plain_http_is_sent_where_that_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRAINER_WEBHOOK", "http://relay.monitoring.svc/x")
    monkeypatch.setenv("RETRAINER_WEBHOOK_ALLOW_HTTP", "1")
    assert webhook.configured() is not None
    monkeypatch.setenv("RETRAINER_WEBHOOK_FORMAT", "fax")
    with pytest.raises(UserError, match="slack, teams, json"):
        webhook.configured()


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """An http address goes to the proxy whole."""
    with receiver() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.server_port}")
        reason = webhook.send(webhook.Webhook("http://chat.invalid/x", "json"), {"a": 1}, PATIENCE)
    assert reason == "" and proxy.paths == ["http://chat.invalid/x"]


def test_an_error_of_our_own_costs_the_notification_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRAINER_WEBHOOK", f"http://127.0.0.1:{free_port()}/{CANARY}")
    line = Notifier("mine", tmp_path).registered({"gate": {}}, {})
    assert line == "webhook: nothing was told, by an error of our own (KeyError)"
