"""JSON over HTTP through the standard library: one exchange with a server, asked again while it is not well.

No redirect is followed, and nothing that is sent to say who asks stands in a message or a log.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retrainer.errors import SettingError
from retrainer.messages import logger

# A server is there or not within seconds; one that is may take its time to answer.
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
# What may pass by itself, and how often and after how long MLflow's client asks again (mlflow 3.17,
# utils/request_utils.py): at once, then after 4, 8, … seconds, or as the server says.
PASSING = (408, 429, 500, 502, 503, 504)
RETRIES = 3
_BACKOFF_SECONDS = 2.0
_LONGEST_WAIT_SECONDS = 60.0
CA_BUNDLE = "REQUESTS_CA_BUNDLE"


@dataclass(frozen=True)
class Server:
    """`address` holds no credentials, `said` is how messages name it, `headers` say who asks.

    tls: what is trusted, for an address that begins with https.
    """

    address: str
    said: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: ssl.SSLContext | None = None
    retries: int = RETRIES


class Unreachable(Exception):
    """No answer, or none that is JSON; its message says why, and may hold a part of the address."""


class Declined(Exception):
    """An answer that is no success. `body` is its JSON object, empty where it is none."""

    def __init__(self, status: int, reason: str, location: str, body: Mapping[str, Any]) -> None:
        super().__init__(f"HTTP {status} {reason}")
        self.status, self.reason, self.location, self.body = status, reason, location, body


class StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the next address would receive the credentials."""

    def redirect_request(self, *_: Any) -> None:
        return None


def exchange(server: Server, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The JSON object that the server answers to `path`, which begins with a slash.

    Raises Unreachable and Declined; the latter at once, or for PASSING when it is answered again and again.
    """
    data = None if body is None else json.dumps(body).encode()
    headers = {"Accept": "application/json", **({"Content-Type": "application/json"} if data else {})}
    url = f"{server.address.rstrip('/')}{path}"
    request = urllib.request.Request(url, data, headers | dict(server.headers), method=method)
    opener = urllib.request.build_opener(StayHere, _Patient(server.tls))
    for wait in _waits(server.retries):
        try:
            with opener.open(request, timeout=CONNECT_SECONDS) as answer:
                return _object(json.load(answer))
        except urllib.error.HTTPError as error:
            if wait is None or error.code not in PASSING:
                raise _declined(error) from None
            _wait(server, error, wait)
        except http.client.InvalidURL:  # whose message holds a part of the address, of a password perhaps
            raise Unreachable("that is no address") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unreachable(str(getattr(error, "reason", error))) from None
    raise AssertionError("the last try returns or raises")


def _object(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise ValueError("it answered JSON that is no object")
    return answer


def _declined(error: urllib.error.HTTPError) -> Declined:
    with error:
        try:
            body = _object(json.load(error))
        except (OSError, http.client.HTTPException, ValueError):
            body = {}
    return Declined(error.code, str(error.reason), str(error.headers.get("Location")), body)


class _Patient(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """Connects within CONNECT_SECONDS or not at all, then waits ANSWER_SECONDS for each part of an answer."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        super().__init__(context=tls)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_patient(http.client.HTTPSConnection), request, context=self._tls)

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_patient(http.client.HTTPConnection), request)


def _patient(connection: type[http.client.HTTPConnection]) -> Any:
    class Patient(connection):  # type: ignore[valid-type, misc]
        def connect(self) -> None:
            super().connect()
            self.sock.settimeout(ANSWER_SECONDS)

    return Patient


def _waits(retries: int) -> Iterator[float | None]:
    """Seconds before each further try; None after the last."""
    for tried in range(retries):
        yield _BACKOFF_SECONDS * 2**tried if tried else 0.0
    yield None


def _wait(server: Server, error: urllib.error.HTTPError, seconds: float) -> None:
    """Says what was answered, and waits as long as the server asks for, within reason."""
    with error:
        asked_for = error.headers.get("Retry-After", "")
    if asked_for.isdecimal():
        seconds = float(asked_for)
    seconds = min(seconds, _LONGEST_WAIT_SECONDS)
    logger("services").warning(
        "%s answered HTTP %s %s; asking again in %.0f s", server.said, error.code, error.reason, seconds
    )
    time.sleep(seconds)


def split_userinfo(uri: str) -> tuple[str, dict[str, str]]:
    """The address without `user:password@`, and the header that says the same."""
    parts = urllib.parse.urlsplit(uri)
    userinfo, at, host = parts.netloc.rpartition("@")
    if not at:
        return uri, {}
    return parts._replace(netloc=host).geturl(), basic(urllib.parse.unquote(userinfo))


def basic(pair: str) -> dict[str, str]:
    """The header of a name and password, `name:password`."""
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def bearer(token: str, said: str) -> dict[str, str]:
    """The header of a token, which `said` holds. Raises SettingError, which does not show it, for no token.

    http.client quotes a header with a line break when it refuses to send it.
    """
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise SettingError(
            f"{said}: what it holds is no token (it is not shown); no line break may follow it"
        )
    return {"Authorization": f"Bearer {token}"}


def token_in(path: Path, variable: str) -> str:
    """The token in the file that the variable names. Raises SettingError where there is none."""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise SettingError(
            f"{variable}={path} cannot be read ({reason}); name the file with the token"
        ) from None
    if not token:
        raise SettingError(f"{variable}={path} is empty; it should hold the token")
    return token


def trusted(*variables: str) -> ssl.SSLContext:
    """Trusts the certificates that the first of these variables names that is set; else those of the system.

    Raises SettingError for a file that holds none.
    """
    named = next((name for name in variables if os.environ.get(name)), "")
    try:
        return ssl.create_default_context(cafile=os.environ[named] if named else None)
    except OSError:  # an SSLError is one
        raise SettingError(f"{named}={os.environ.get(named)} names no file of certificates") from None
