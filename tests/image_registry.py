"""A registry on loopback that speaks what a tag's digest needs of the distribution interface, version 2."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

BODY = b'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}'
DIGEST = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
TOKEN = "a-token-for-anyone"
SCOPE = "repository:library/python:pull"


@contextmanager
def image_registry(token: bool = False, fault: str = "") -> Iterator[str]:
    """`127.0.0.1:PORT` of a registry with any tag of library/python; `fault` is how it misbehaves.

    absent: no tag. refusing: no token is enough. lying: a digest of other bytes. endless: a manifest of
    megabytes. not http: another protocol. unreachable: nobody listens.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if fault == "not http":
                self.wfile.write(b"220 mail.example ready\r\n")
                return
            asked = urlsplit(self.path)
            if asked.path == "/token":
                query = parse_qs(asked.query)
                known = query == {"service": ["loopback"], "scope": [SCOPE]}
                self.answer(200 if known else 400, json.dumps({"token": TOKEN}).encode())
            elif fault == "refusing" or (token and self.headers["Authorization"] != f"Bearer {TOKEN}"):
                self.challenge()
            elif fault == "absent" or not asked.path.startswith("/v2/library/python/manifests/"):
                self.answer(404, b"{}")
            else:
                self.manifest()

        def challenge(self) -> None:
            realm = f"http://127.0.0.1:{server.server_port}/token"
            wanted = f'Bearer realm="{realm}",service="loopback",scope="{SCOPE}"'
            self.answer(401, b"{}", {"WWW-Authenticate": wanted})

        def manifest(self) -> None:
            assert "application/vnd.oci.image.index.v1+json" in self.headers["Accept"]
            body = BODY + b" " * (5 << 20) if fault == "endless" else BODY
            told = f"sha256:{'0' * 64}" if fault == "lying" else DIGEST
            self.answer(200, body, {"Docker-Content-Digest": told})

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                assert fault == "endless"

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        address = f"127.0.0.1:{server.server_port}"
        if fault == "unreachable":
            server.server_close()
            yield address
            return
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield address
        finally:
            server.shutdown()
            thread.join()
