"""Who we are for Kubeflow: a bearer token from the environment, fetched anew before it expires.

KFP_TOKEN                       the token itself
KFP_TOKEN_FILE                  a file that holds it, read at each request: such files are rotated
KFP_OIDC_CLIENT_ID, _SECRET     a client of the provider KFP_OIDC_ISSUER (or KFP_OIDC_TOKEN_URL);
                                KFP_OIDC_SCOPE and KFP_OIDC_AUDIENCE where the provider wants them
otherwise                       the token that Kubernetes lends to a pod, where there is one
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from retrainer.errors import ServiceError, SettingError
from retrainer.services.address import without_credentials
from retrainer.services.json_http import token_in

Token = Callable[[], str]

# Where kfp's own client looks for the pod's token.
_POD_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
_POD_TOKEN_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"
_DISCOVERY = "/.well-known/openid-configuration"
_TIMEOUT_SECONDS = 2.0
# A token that ends sooner than this is not worth a request.
_MARGIN_SECONDS = 30.0


def token_source() -> Token | None:
    """What gives a valid token at any time; None where nothing says who we are.

    Raises UserError for settings that do not fit together.
    """
    environment = os.environ
    if token := environment.get("KFP_TOKEN", "").strip():
        return lambda: token
    if path := environment.get("KFP_TOKEN_FILE"):
        return lambda: token_in(Path(path), "KFP_TOKEN_FILE")
    if environment.get("KFP_OIDC_CLIENT_ID"):
        return _Oidc()
    pod = Path(environment.get(_POD_TOKEN_VARIABLE) or _POD_TOKEN)
    return (lambda: token_in(pod, _POD_TOKEN_VARIABLE)) if pod.is_file() else None


class _Oidc:
    """Client credentials: the identity provider gives a token for our id and secret."""

    def __init__(self) -> None:
        environment = os.environ
        self._id = environment["KFP_OIDC_CLIENT_ID"]
        self._secret = environment.get("KFP_OIDC_CLIENT_SECRET", "")
        self._issuer = environment.get("KFP_OIDC_ISSUER", "").rstrip("/")
        self._address = environment.get("KFP_OIDC_TOKEN_URL", "")
        self._token, self._until = "", 0.0
        if not self._secret:
            raise SettingError("KFP_OIDC_CLIENT_ID is set without KFP_OIDC_CLIENT_SECRET; set both")
        if not (self._issuer or self._address):
            raise SettingError(
                "KFP_OIDC_CLIENT_ID is set: set KFP_OIDC_ISSUER (or KFP_OIDC_TOKEN_URL) as well"
            )

    def __call__(self) -> str:
        if time.monotonic() < self._until:
            return self._token
        fields = {"grant_type": "client_credentials", "client_id": self._id, "client_secret": self._secret}
        for name in ("scope", "audience"):
            if value := os.environ.get(f"KFP_OIDC_{name.upper()}"):
                fields[name] = value
        answer = _ask(self._token_address(), "the identity provider's token address", fields)
        self._token = str(answer.get("access_token") or answer.get("id_token") or "")
        if not self._token:
            raise ServiceError("KFP_OIDC_ISSUER: the identity provider's answer holds no access_token")
        self._until = time.monotonic() + float(answer.get("expires_in", 300)) - _MARGIN_SECONDS
        return self._token

    def _token_address(self) -> str:
        if not self._address:
            found = _ask(self._issuer + _DISCOVERY, "KFP_OIDC_ISSUER")
            self._address = str(found.get("token_endpoint", ""))
            if not self._address:
                raise ServiceError(f"KFP_OIDC_ISSUER={self._issuer}: its discovery names no token_endpoint")
        return self._address


def _ask(address: str, name: str, fields: dict[str, str] | None = None) -> dict[str, Any]:
    """The JSON at `address`; a POST when there are fields. The fields are in no message."""
    if not address.startswith(("http://", "https://")):
        raise SettingError(f"{name}: {without_credentials(address)} should begin with https://")
    body = urllib.parse.urlencode(fields).encode() if fields else None
    request = urllib.request.Request(address, data=body, headers={"Accept": "application/json"})
    context = tls() if address.startswith("https:") else None
    opener = urllib.request.build_opener(_StayHere, urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        with error:
            reason = f"HTTP {error.code}"
        cure = "check KFP_OIDC_CLIENT_ID and KFP_OIDC_CLIENT_SECRET" if fields else "correct the address"
    except (OSError, http.client.HTTPException, ValueError, TypeError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        cure = "check the address, and KFP_CA_BUNDLE where the provider has a company's certificate"
    raise ServiceError(f"{name}: {without_credentials(address)} gives no token ({reason}); {cure}")


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the next address would receive the secret."""

    def redirect_request(self, *_: Any) -> None:
        return None


def tls() -> ssl.SSLContext:
    """Trusts KFP_CA_BUNDLE where that is set. Raises UserError for a file that holds no certificate."""
    bundle = os.environ.get("KFP_CA_BUNDLE")
    try:
        return ssl.create_default_context(cafile=bundle or None)
    except (OSError, ssl.SSLError) as error:
        raise SettingError(
            f"KFP_CA_BUNDLE={bundle} holds no certificates ({error.strerror or error}); name a PEM file"
        ) from None
