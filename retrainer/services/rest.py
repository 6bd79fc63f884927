"""MLflow's REST interface through the standard library: a question takes milliseconds, not an import.

Reads the same environment as MLflow's own client: MLFLOW_TRACKING_USERNAME, _PASSWORD, _TOKEN, _INSECURE_TLS,
_SERVER_CERT_PATH, _CLIENT_CERT_PATH and MLFLOW_WORKSPACE.
"""

from __future__ import annotations

import os
import ssl
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrainer.errors import ServiceError, SettingError, UserError
from retrainer.services.address import is_server, registry_uri, tracking_uri, without_credentials
from retrainer.services.json_http import (
    CA_BUNDLE,
    PASSING,
    RETRIES,
    Declined,
    Server,
    Unreachable,
    basic,
    bearer,
    exchange,
    split_userinfo,
    trusted,
)

_PREFIX = "/api/2.0/mlflow/"
_SERVER_CERTIFICATES = "MLFLOW_TRACKING_SERVER_CERT_PATH"
_CLIENT_CERTIFICATE = "MLFLOW_TRACKING_CLIENT_CERT_PATH"
# Where MLflow's client looks for a name and password too.
_CREDENTIALS = Path("~/.mlflow/credentials")


class Refused(Exception):
    """The server does not take these credentials, or wants a kind that only MLflow's client speaks."""


def ask(uri: str, path: str, query: dict[str, str]) -> dict[str, Any] | None:
    """GET `path` of the server at `uri`; None when the server does not know the thing asked for.

    Raises UserError when the server cannot be reached or answers nonsense, and Refused when it wants to
    know who asks.
    """
    return _exchange(uri, "GET", f"{path}?{urllib.parse.urlencode(query)}", None)


def post(uri: str, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """POST, as `ask`; None when the server does not know the thing that the body names."""
    return _exchange(uri, "POST", path, body)


def _exchange(uri: str, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any] | None:
    try:
        return exchange(_server(uri), method, f"{_PREFIX}{path}", body)
    except Declined as error:
        _raise_unless_absent(uri, error)
        return None
    except Unreachable as error:
        raise unreachable(uri, str(error)) from None


def _server(uri: str) -> Server:
    try:
        address, headers = split_userinfo(uri)
    except ValueError:
        raise unreachable(uri, "that is no address") from None
    said = f"{_variable(uri)}={without_credentials(uri)}"
    return Server(address, said, headers | _headers(), _tls(address), _retries())


def _retries() -> int:
    """As many as MLflow's variable says."""
    given = os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES") or str(RETRIES)
    if not given.isdecimal():
        raise SettingError(f"MLFLOW_HTTP_REQUEST_MAX_RETRIES={given}: needed is a whole number, 0 or more")
    return int(given)


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


def _raise_unless_absent(uri: str, error: Declined) -> None:
    """Raises what an error status means, unless that is 'there is no such thing'."""
    code = str(error.body.get("error_code", ""))
    message = str(error.body.get("message", error.reason))
    if code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "not found" in message):
        return
    if error.status in (401, 403):
        raise Refused(f"HTTP {error.status} {message}")
    if 300 <= error.status < 400:
        raise unreachable(uri, f"it redirects to {error.location}; give that address")
    where = without_credentials(f"{_variable(uri)}={uri} answered HTTP {error.status} {message}")
    cure = "run this again when it is well" if error.status in PASSING else "correct the address"
    raise ServiceError(f"{where}; {cure}, or ask who runs that server")


def _headers() -> dict[str, str]:
    environment, headers = os.environ, {}
    if workspace := environment.get("MLFLOW_WORKSPACE"):
        headers["X-MLFLOW-WORKSPACE"] = workspace
    user, password = environment.get("MLFLOW_TRACKING_USERNAME"), environment.get("MLFLOW_TRACKING_PASSWORD")
    if user and password:
        headers |= basic(f"{user}:{password}")
    elif token := environment.get("MLFLOW_TRACKING_TOKEN"):
        headers |= bearer(token, "MLFLOW_TRACKING_TOKEN")
    return headers


def _tls(address: str) -> ssl.SSLContext | None:
    if not address.startswith("https:"):
        return None
    context = trusted(_SERVER_CERTIFICATES, CA_BUNDLE)
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("1", "true"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if client := os.environ.get(_CLIENT_CERTIFICATE):
        try:
            context.load_cert_chain(client)
        except OSError:
            raise SettingError(f"{_CLIENT_CERTIFICATE}={client} names no certificate with its key") from None
    return context
