"""An image registry's HTTP interface (OCI distribution, version 2): only what tells a tag's digest."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import ssl
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from pipelines.containers.engine import without_tag
from retrainer.errors import ServiceError

_SECONDS = 15
_LARGEST_BYTES = 4 << 20
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
# An index first: its digest is the same for every kind of machine.
_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_CURE = "where it can be reached, run make pin-base and commit the file; or give BASE=name@sha256:… yourself"


def digest_of_tag(reference: str, ca_bundle: Path | None = None) -> str:
    """The sha256 of what the registry has under `registry/name:tag` now, counted here over its bytes.

    Raises UserError when the registry cannot be reached, refuses, lacks the tag, or contradicts itself.
    """
    registry, _, path = without_tag(reference).partition("/")
    tag = reference.removeprefix(f"{registry}/{path}:")
    try:
        context = ssl.create_default_context(cafile=str(ca_bundle) if ca_bundle else None)
        body, told = _manifest(_address(registry), path, tag, context)
    except HTTPError as error:
        error.close()
        raise ServiceError(f"{registry} has no {path}:{tag} for us (HTTP {error.code}); {_CURE}") from None
    except (URLError, OSError, ValueError, KeyError, http.client.HTTPException) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())[:120]
        raise ServiceError(f"{registry} cannot be asked for {path}:{tag} ({reason}); {_CURE}") from None
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    if told and told != digest:
        raise ServiceError(f"{registry}: {path}:{tag} does not have the digest that it names; {_CURE}")
    return digest


def _address(registry: str) -> str:
    if registry == "docker.io":
        return "https://registry-1.docker.io"
    scheme = "http" if registry.rpartition(":")[0] in _LOOPBACK else "https"
    return f"{scheme}://{registry}"


def _manifest(server: str, path: str, tag: str, context: ssl.SSLContext) -> tuple[bytes, str]:
    """The manifest's bytes and the digest that came with them; asks for a token where one is wanted."""
    address, headers = f"{server}/v2/{path}/manifests/{tag}", {"Accept": _ACCEPT}
    try:
        return _get(address, headers, context)
    except HTTPError as error:
        challenge = error.headers.get("WWW-Authenticate", "")
        if error.code != http.client.UNAUTHORIZED or not challenge.startswith("Bearer "):
            raise
        error.close()
        token = _token(challenge, server, context)
    return _get(address, headers | {"Authorization": f"Bearer {token}"}, context)


def _token(challenge: str, server: str, context: ssl.SSLContext) -> str:
    """An anonymous token from the place that the registry's challenge names."""
    asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = asked.pop("realm")
    if urlsplit(realm).scheme != "https" and urlsplit(server).scheme == "https":
        raise ValueError("it sends for tokens to an address without TLS")
    body, _ = _get(f"{realm}?{urlencode(asked)}", {}, context)
    answer = json.loads(body)
    return str(answer.get("token") or answer["access_token"])


def _get(address: str, headers: dict[str, str], context: ssl.SSLContext) -> tuple[bytes, str]:
    if not address.startswith(("https://", "http://")):
        raise ValueError("it names an address that is not HTTP")
    with urlopen(Request(address, headers=headers), timeout=_SECONDS, context=context) as answer:
        body = answer.read(_LARGEST_BYTES + 1)
        if len(body) > _LARGEST_BYTES:
            raise ValueError("it sends more than a manifest can hold")
        return body, answer.headers.get("Docker-Content-Digest", "")
