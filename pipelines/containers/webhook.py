"""`python -m pipelines.containers.webhook PORT FILE`: a webhook on loopback; a message is a line of FILE."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class _Receiver(BaseHTTPRequestHandler):
    file = Path()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.file.open("ab") as file:
            file.write(body.replace(b"\n", b" ") + b"\n")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """The address in a request is a secret."""


if __name__ == "__main__":
    port, file = sys.argv[1:]
    _Receiver.file = Path(file)
    HTTPServer(("127.0.0.1", int(port)), _Receiver).serve_forever()
