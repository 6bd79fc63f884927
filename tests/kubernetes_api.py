"""As much of a Kubernetes API as a pod asks for Argo's record of its own run, over TLS on loopback."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.package_index import make_certificate

TOKEN = "canary-service-account-token"
RUN = "retrainer-mine-x7k2p"


@contextmanager
def kubernetes(folder: Path, record: dict[str, Any]) -> Iterator[tuple[Path, dict[str, str]]]:
    """Serves the record in namespace `team`; yields the pod's account folder and its environment."""
    certificate, key = make_certificate(folder)
    account = folder / "serviceaccount"
    account.mkdir()
    for name, text in {"token": TOKEN, "namespace": "team", "ca.crt": certificate.read_text()}.items():
        (account / name).write_text(text)

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = f"/apis/argoproj.io/v1alpha1/namespaces/team/workflows/{RUN}"
            allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}" and record
            self.send_response(200 if allowed and self.path == wanted else 403)
            self.end_headers()
            if allowed and self.path == wanted:
                self.wfile.write(json.dumps(record).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        port = str(server.server_port)
        environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port}
        yield account, environment | {"RETRAINER_WORKFLOW": RUN}
    finally:
        server.shutdown()
        server.server_close()


def node(name: str, phase: str, kind: str = "DAG", message: str = "", finished: str = "") -> dict[str, Any]:
    """A node as Argo names them: `<run>.root.exit-handler-1.train.executor(0)`, shown as its last part."""
    full = f"{RUN}.{name}"
    shown = name.rpartition(".")[2]
    return {
        "name": full,
        "displayName": shown,
        "phase": phase,
        "type": kind,
        "message": message,
        "finishedAt": finished,
    }


def record_of(*nodes: dict[str, Any]) -> dict[str, Any]:
    return {"status": {"nodes": {f"{RUN}-{number}": one for number, one in enumerate(nodes)}}}
