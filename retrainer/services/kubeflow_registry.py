"""Kubeflow's Model Registry, by its REST interface v1alpha3.

RETRAINER_KUBEFLOW_REGISTRY             its address, before that of registry.kubeflow; `none`: there is none
RETRAINER_KUBEFLOW_REGISTRY_TOKEN       a bearer token for it
RETRAINER_KUBEFLOW_REGISTRY_TOKEN_FILE  a file that holds the token, read by each command and step
REQUESTS_CA_BUNDLE                      certificates to trust, where the company has its own

The interface is described by api/openapi/model-registry.yaml of github.com/kubeflow/model-registry.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrainer.errors import ServiceError, SettingError
from retrainer.services.actor import printable
from retrainer.services.address import registry_uri, sqlite_path, without_credentials
from retrainer.services.json_http import (
    CA_BUNDLE,
    PASSING,
    Declined,
    Server,
    Unreachable,
    bearer,
    exchange,
    split_userinfo,
    token_in,
    trusted,
)

ADDRESS = "RETRAINER_KUBEFLOW_REGISTRY"
TOKEN, TOKEN_FILE = f"{ADDRESS}_TOKEN", f"{ADDRESS}_TOKEN_FILE"
NONE = "none"

Thing = dict[str, Any]

_PREFIX = "/api/model_registry/v1alpha3/"
_PAGE = "100"
_CONFLICT = 409
_MESSAGE_CHARACTERS = 300


def address_of(setting: str) -> str:
    """The address that this process tells what it registers, by the environment or `registry.kubeflow`.

    Empty where there is none, and where the setting meets an MLflow that is a file of this machine: what a
    laptop tries is not the team's. The environment asks for that one too. Raises SettingError for no address.
    """
    given = os.environ.get(ADDRESS, "").strip()
    if given == NONE:
        return ""
    if given:
        _check_address(given)
        return given
    return "" if is_of_this_machine() else setting


def is_of_this_machine() -> bool:
    """Whether MLflow's registry is a file here, of which others know nothing."""
    return sqlite_path(registry_uri()) is not None


def _check_address(given: str) -> None:
    try:
        parts = urllib.parse.urlsplit(given)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole or parts.query or parts.fragment or not (given.isascii() and given.isprintable()):
        raise SettingError(
            f"{ADDRESS} is no address (it is not shown): needed is http(s)://host:port, or {NONE}"
        )


class KubeflowRegistry:
    """Every call raises ServiceError when the registry does not answer, or refuses."""

    def __init__(self, address: str) -> None:
        """Raises SettingError when the environment's token or certificates cannot be used."""
        bare, headers = split_userinfo(address)
        self.address = without_credentials(bare).rstrip("/")
        self._named = f"Kubeflow's Model Registry at {self.address}"
        tls = trusted(CA_BUNDLE) if bare.startswith("https:") else None
        self._server = Server(bare, self._named, headers | _token_header(), tls)

    def every(self, path: str, **query: str) -> list[Thing]:
        """All things below `path`, page by page."""
        found: list[Thing] = []
        token = ""
        while True:
            pages = query | {"pageSize": _PAGE} | ({"nextPageToken": token} if token else {})
            answer = self._ask("GET", f"{path}?{urllib.parse.urlencode(pages)}")
            found += self._things(answer.get("items") or [])
            before, token = token, str(answer.get("nextPageToken") or "")
            if not token:
                return found
            if token == before:
                raise self._stranger()

    def create(self, path: str, fields: Mapping[str, Any]) -> Thing | None:
        """Makes the thing; None when there is one of that name already."""
        try:
            return self._things([self._asked("POST", path, fields)])[0]
        except Declined as error:
            if error.status == _CONFLICT:
                return None
            raise self._explained(error) from None

    def update(self, path: str, fields: Mapping[str, Any]) -> Thing:
        """Changes these fields of the thing; properties are replaced as a whole."""
        return self._things([self._ask("PATCH", path, fields)])[0]

    def check(self) -> None:
        """Whether it answers, and to us."""
        self._ask("GET", "registered_models?pageSize=1")

    def _ask(self, method: str, path: str, fields: Mapping[str, Any] | None = None) -> Thing:
        try:
            return self._asked(method, path, fields)
        except Declined as error:
            raise self._explained(error) from None

    def _asked(self, method: str, path: str, fields: Mapping[str, Any] | None = None) -> Thing:
        try:
            return exchange(self._server, method, f"{_PREFIX}{path}", fields)
        except Unreachable as error:
            reason = without_credentials(printable(str(error)))
            raise ServiceError(f"{self._named} does not answer ({reason})") from None

    def _things(self, found: Any) -> list[Thing]:
        """Raises ServiceError for an answer that is none of a Model Registry."""
        if isinstance(found, list) and all(isinstance(one, dict) and one.get("id") for one in found):
            return found
        raise self._stranger()

    def _stranger(self) -> ServiceError:
        return ServiceError(f"{self._named} answers as no Model Registry does; correct the address")

    def _explained(self, error: Declined) -> ServiceError:
        if error.status in (401, 403):
            cure = f"set {TOKEN}, or {TOKEN_FILE}"
            return ServiceError(f"{self._named} does not take these credentials ({error}); {cure}")
        if 300 <= error.status < 400:
            where = without_credentials(printable(error.location))
            cure = f"give that address, or {TOKEN} where it is a page to log in"
            return ServiceError(f"{self._named} redirects to {where}; {cure}")
        message = printable(" ".join(str(error.body.get("message", "")).split()))[:_MESSAGE_CHARACTERS]
        cure = "run this again when it is well" if error.status in PASSING else "correct the address"
        return ServiceError(f"{self._named} answered {error}: {message or 'no reason given'}; {cure}")


def _token_header() -> dict[str, str]:
    token, said = os.environ.get(TOKEN, "").strip(), TOKEN
    if not token and (path := os.environ.get(TOKEN_FILE, "").strip()):
        token, said = token_in(Path(path), TOKEN_FILE), f"{TOKEN_FILE}={path}"
    return bearer(token, said) if token else {}
