"""Posting JSON to the address in RETRAINER_WEBHOOK. The address is itself a secret: nothing here shows it.

RETRAINER_WEBHOOK               https://…
RETRAINER_WEBHOOK_FORMAT        slack, teams or json, where the address does not tell which
RETRAINER_WEBHOOK_EVENTS        those that are sent, as promoted,failed; all where it is not set
RETRAINER_WEBHOOK_ALLOW_HTTP    1: plain http to another machine is meant so, as inside a cluster
REQUESTS_CA_BUNDLE              certificates to trust, where the company has its own

The standard library posts, as it writes no log and follows HTTP(S)_PROXY and NO_PROXY by itself.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import queue
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, cast, get_args

from retrainer.errors import ServiceError, UserError
from retrainer.services.address import WEBHOOK
from retrainer.services.json_http import CA_BUNDLE, StayHere, split_userinfo, trusted

FORMAT = "RETRAINER_WEBHOOK_FORMAT"
EVENTS = "RETRAINER_WEBHOOK_EVENTS"
ALLOW_HTTP = "RETRAINER_WEBHOOK_ALLOW_HTTP"

Format = Literal["slack", "teams", "json"]

# Whose address it is, by the end of the host's name.
_HOSTS: dict[str, Format] = {
    "hooks.slack.com": "slack",
    "hooks.slack-gov.com": "slack",
    ".webhook.office.com": "teams",
    "outlook.office.com": "teams",
    ".logic.azure.com": "teams",
    ".api.powerplatform.com": "teams",
}
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
# Teams' connectors say by the text of a 200 that they did not deliver.
_FAILED_INSIDE = re.compile(r"HTTP error (\d{3})")
_READ_BYTES = 4096


@dataclass(frozen=True)
class Webhook:
    """`events`: the names of those that it is told; empty: every one."""

    url: str = field(repr=False)
    format: Format
    events: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Patience:
    """How long a delivery may take: waits of `first_wait`, twice that, …, as long as the receiver asks for.

    total_seconds bounds all of it, whatever the receiver does; `pause` waits so many seconds.
    """

    tries: int = 4
    first_wait: float = 1.0
    answer_seconds: float = 10.0
    total_seconds: float = 30.0
    pause: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class _Answer:
    """`reason` is empty when the message was taken; `again`: whether another try may help."""

    reason: str = ""
    again: bool = True
    wait: float = 0.0


def configured() -> Webhook | None:
    """The webhook that the environment names; None without one. Raises UserError, which never quotes it."""
    url = os.environ.get(WEBHOOK, "").strip()
    if not url:
        return None
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urllib.parse.urlsplit("")
    if parts.scheme not in ("http", "https") or not host or not url.isascii() or re.search(r"\s", url):
        raise ServiceError(f"{WEBHOOK} is no address of the form https://host/path (its value is not shown)")
    if parts.scheme == "http" and not _is_loopback(host) and os.environ.get(ALLOW_HTTP) != "1":
        raise ServiceError(
            f"{WEBHOOK} begins with http://, and would cross the network readable: give https://, or set"
            f" {ALLOW_HTTP}=1 where that is meant"
        )
    events = os.environ.get(EVENTS, "").replace(",", " ").split()
    return Webhook(url, _format(host), frozenset(events))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _format(host: str) -> Format:
    chosen = os.environ.get(FORMAT, "").strip().lower()
    if chosen:
        if chosen not in get_args(Format):
            raise ServiceError(f"{FORMAT} should be one of {', '.join(get_args(Format))}")
        return cast(Format, chosen)
    return next((kind for end, kind in _HOSTS.items() if f".{host}".endswith(f".{end.lstrip('.')}")), "json")


def send(hook: Webhook, body: Mapping[str, Any], patience: Patience) -> str:
    """Posts the body. Returns nothing when it was taken, else why not, in words that hold no address.

    It runs in a thread, so that no receiver, however slow, holds a run longer than `total_seconds`.
    """
    data = json.dumps(body).encode()
    done: queue.Queue[str] = queue.Queue()

    def work() -> None:
        try:
            done.put(_deliver(hook, data, patience))
        except Exception as error:  # its own words may hold the address
            done.put(type(error).__name__)

    threading.Thread(target=work, daemon=True, name="webhook").start()
    try:
        return done.get(timeout=patience.total_seconds)
    except queue.Empty:
        return f"no whole answer within {patience.total_seconds:g} s"


def _deliver(hook: Webhook, data: bytes, patience: Patience) -> str:
    until = time.monotonic() + patience.total_seconds
    for number in range(1, patience.tries + 1):
        answer = _post(hook, data, patience.answer_seconds)
        if not answer.reason or not answer.again:
            return answer.reason
        wait = max(answer.wait, patience.first_wait * 2 ** (number - 1))
        if number < patience.tries and time.monotonic() + wait > until:
            return f"{answer.reason}, and the next try would be in {wait:.0f} s"
        if number < patience.tries:
            patience.pause(wait)
    return f"{answer.reason}, tried {patience.tries} times"


def _post(hook: Webhook, data: bytes, seconds: float) -> _Answer:
    address, headers = split_userinfo(hook.url)
    headers |= {"Content-Type": "application/json", "User-Agent": "retrainer"}
    request = urllib.request.Request(address, data, headers, method="POST")
    try:
        secure = (
            [urllib.request.HTTPSHandler(context=trusted(CA_BUNDLE))]
            if address.lower().startswith("https:")
            else []
        )
        opener = urllib.request.build_opener(StayHere, *secure)
        with opener.open(request, timeout=seconds) as answer:
            return _of_text(answer.read(_READ_BYTES).decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        with error:
            return _of_status(error.code, error.headers.get("Retry-After", ""))
    except UserError as error:
        return _Answer(str(error), again=False)
    except (OSError, http.client.HTTPException) as error:
        return _of_error(getattr(error, "reason", error), seconds)


def _of_text(text: str) -> _Answer:
    inside = _FAILED_INSIDE.search(text)
    return _of_status(int(inside[1]), "") if inside else _Answer()


def _of_status(status: int, retry_after: str) -> _Answer:
    if 300 <= status < 400:
        return _Answer(f"HTTP {status}: it redirects, which is not followed; give the last address", False)
    return _Answer(f"HTTP {status}", status in _TRANSIENT, _seconds(retry_after))


def _seconds(retry_after: str) -> float:
    """What Retry-After asks for, as seconds or as a date; 0 when it says nothing that can be read."""
    try:
        if retry_after.strip().isdigit():
            return float(retry_after)
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _of_error(error: object, seconds: float) -> _Answer:
    """Our own words for a failure: the system's may hold the address, or the proxy's password."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _Answer(f"its certificate is not trusted ({CA_BUNDLE} names a company's own)", False)
    if isinstance(error, TimeoutError):
        return _Answer(f"no answer within {seconds:g} s")
    if isinstance(error, socket.gaierror):
        return _Answer("its host is not known")
    if isinstance(error, ConnectionRefusedError):
        return _Answer("connection refused")
    if isinstance(error, ConnectionError | http.client.HTTPException | ssl.SSLError):
        return _Answer("it broke the connection, or does not speak HTTP")
    if isinstance(error, OSError) and "tunnel" in str(error).lower():
        return _Answer("the proxy refuses")
    number = error.errno if isinstance(error, OSError) else None
    return _Answer(os.strerror(number) if number else "no connection")
