"""MLflow's REST interface through the standard library: a question takes milliseconds, not an import.

Reads the same environment as MLflow's own client: MLFLOW_TRACKING_USERNAME, _PASSWORD, _TOKEN, _INSECURE_TLS,
_SERVER_CERT_PATH, _CLIENT_CERT_PATH and MLFLOW_WORKSPACE.
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
from pathlib import Path
from typing import Any

from retrainer.errors import ServiceError, SettingError, UserError
from retrainer.messages import logger
from retrainer.services.address import is_server, registry_uri, tracking_uri, without_credentials

# A server is there or not within seconds; one that is may take its time to answer.
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
# What may pass by itself, and how often and after how long MLflow's client asks again (mlflow 3.17,
# utils/request_utils.py): at once, then after 4, 8, … seconds, or as the server says.
_PASSING = (408, 429, 500, 502, 503, 504)
_RETRIES = 3
_BACKOFF_SECONDS = 2.0
_LONGEST_WAIT_SECONDS = 60.0
_PREFIX = "/api/2.0/mlflow/"
# Where MLflow's client looks for a name and password too.
_CREDENTIALS = Path("~/.mlflow/credentials")


class Refused(Exception):
    """The server does not take these credentials, or wants a kind that only MLflow's client speaks."""


class StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the next address would receive the credentials."""

    def redirect_request(self, *_: Any) -> None:
        return None


def ask(uri: str, path: str, query: dict[str, str]) -> dict[str, Any] | None:
    """GET `path` of the server at `uri`; None when the server does not know the thing asked for.

    Raises UserError when the server cannot be reached or answers nonsense, and Refused when it wants to
    know who asks.
    """
    return _exchange(uri, f"{path}?{urllib.parse.urlencode(query)}", None)


def post(uri: str, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """POST, as `ask`; None when the server does not know the thing that the body names."""
    return _exchange(uri, path, json.dumps(body).encode())


def _exchange(uri: str, path: str, data: bytes | None) -> dict[str, Any] | None:
    address, headers = split_userinfo(uri)
    headers |= _headers() | ({"Content-Type": "application/json"} if data else {})
    request = urllib.request.Request(f"{address.rstrip('/')}{_PREFIX}{path}", data, headers)
    opener = urllib.request.build_opener(StayHere, _Patient(address))
    for wait in _waits():
        try:
            with opener.open(request, timeout=CONNECT_SECONDS) as answer:
                return _object(json.load(answer))
        except urllib.error.HTTPError as error:
            if wait is None or error.code not in _PASSING:
                _raise_unless_absent(uri, error)
                return None
            _wait(uri, error, wait)
        except http.client.InvalidURL:  # whose message holds a part of the address, of a password perhaps
            raise unreachable(uri, "that is no address") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise unreachable(uri, str(reason)) from None
    raise AssertionError("the last try returns or raises")


def _object(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise ValueError("it answered JSON that is no object")
    return answer


class _Patient(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """Connects within CONNECT_SECONDS or not at all, then waits ANSWER_SECONDS for each part of an answer."""

    def __init__(self, address: str) -> None:
        self._tls = _tls(address)
        super().__init__(context=self._tls)

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


def _waits() -> Iterator[float | None]:
    """Seconds before each further try; None after the last. MLflow's variable says how many there are."""
    given = os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES") or str(_RETRIES)
    if not given.isdecimal():
        raise SettingError(f"MLFLOW_HTTP_REQUEST_MAX_RETRIES={given}: needed is a whole number, 0 or more")
    retries = int(given)
    for tried in range(retries):
        yield _BACKOFF_SECONDS * 2**tried if tried else 0.0
    yield None


def _wait(uri: str, error: urllib.error.HTTPError, seconds: float) -> None:
    """Says what was answered, and waits as long as the server asks for, within reason."""
    with error:
        asked_for = error.headers.get("Retry-After", "")
    if asked_for.isdecimal():
        seconds = float(asked_for)
    seconds = min(seconds, _LONGEST_WAIT_SECONDS)
    logger("services").warning(
        "%s=%s answered HTTP %s %s; asking again in %.0f s",
        *(_variable(uri), without_credentials(uri), error.code, error.reason, seconds),
    )
    time.sleep(seconds)


def check_reachable() -> None:
    """Raises UserError when a server that MLflow shall use cannot be reached, which takes seconds, does not
    answer within a minute, or not to us.
    """
    for uri in {tracking_uri(), registry_uri()}:
        if not is_server(uri):
            continue
        try:
            ask(uri, "registered-models/alias", {"name": "any", "alias": "champion"})
        except Refused as error:
            if not needs_client() and not _CREDENTIALS.expanduser().is_file():
                raise SettingError(
                    f"MLFLOW_TRACKING_URI={without_credentials(uri)} does not take these credentials"
                    f" ({error}); set MLFLOW_TRACKING_USERNAME and _PASSWORD, or MLFLOW_TRACKING_TOKEN"
                ) from None


def needs_client() -> bool:
    """Whether requests must be signed in a way that only MLflow's client knows."""
    return any(os.environ.get(name) for name in ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4"))


def unreachable(uri: str, reason: str) -> UserError:
    where = without_credentials(f"{_variable(uri)}={uri} does not answer ({reason})")
    return ServiceError(f"{where}; start that server, correct the address, or unset it to use mlflow.db here")


def _variable(uri: str) -> str:
    return "MLFLOW_TRACKING_URI" if uri == tracking_uri() else "MLFLOW_REGISTRY_URI"


def _raise_unless_absent(uri: str, error: urllib.error.HTTPError) -> None:
    """Raises what an error status means, unless that is 'there is no such thing'."""
    with error:
        try:
            body = _object(json.load(error))
        except (OSError, http.client.HTTPException, ValueError):
            body = {}
    code, message = str(body.get("error_code", "")), str(body.get("message", error.reason))
    if code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "not found" in message):
        return
    if error.code in (401, 403):
        raise Refused(f"HTTP {error.code} {message}")
    if 300 <= error.code < 400:
        raise unreachable(uri, f"it redirects to {error.headers.get('Location')}; give that address")
    where = without_credentials(f"{_variable(uri)}={uri} answered HTTP {error.code} {message}")
    cure = "run this again when it is well" if error.code in _PASSING else "correct the address"
    raise ServiceError(f"{where}; {cure}, or ask who runs that server")


def split_userinfo(uri: str) -> tuple[str, dict[str, str]]:
    """The address without `user:password@`, and the header that says the same."""
    parts = urllib.parse.urlsplit(uri)
    userinfo, at, host = parts.netloc.rpartition("@")
    if not at:
        return uri, {}
    return parts._replace(netloc=host).geturl(), _basic(urllib.parse.unquote(userinfo))


def _basic(pair: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def _headers() -> dict[str, str]:
    environment = os.environ
    headers = {"Accept": "application/json"}
    if workspace := environment.get("MLFLOW_WORKSPACE"):
        headers["X-MLFLOW-WORKSPACE"] = workspace
    user, password = environment.get("MLFLOW_TRACKING_USERNAME"), environment.get("MLFLOW_TRACKING_PASSWORD")
    if user and password:
        headers |= _basic(f"{user}:{password}")
    elif token := environment.get("MLFLOW_TRACKING_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _tls(address: str) -> ssl.SSLContext | None:
    if not address.startswith("https:"):
        return None
    bundle = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or os.environ.get("REQUESTS_CA_BUNDLE")
    context = ssl.create_default_context(cafile=bundle or None)
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("1", "true"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if client := os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"):
        context.load_cert_chain(client)
    return context
