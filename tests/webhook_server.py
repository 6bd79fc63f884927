"""A receiver of notifications on loopback that answers, or fails, in whatever way a test wants."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# Stands in every address that a test uses, and must stand nowhere else.
CANARY = "canary-T00-B00-7f3e9c"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.paths.append(self.path)
        self.server.got.append(json.loads(body or b"{}"))
        self.server.way(self)

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, text: str = "", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


Way = Callable[[Handler], None]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, way: Way) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.way = way
        self.got: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.ended = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # whoever asked has gone: that is what many of the tests want

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/{CANARY}?sig={CANARY}"


def taken(handler: Handler) -> None:
    handler.answer(200, "ok")


def status(code: int, text: str = "", **headers: str) -> Way:
    return lambda handler: handler.answer(code, text, **headers)


def later(handler: Handler) -> None:
    handler.answer(503, Retry_After=formatdate(time.time() + 3600, usegmt=True))


def reset(handler: Handler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def hang_up(handler: Handler) -> None:
    handler.close_connection = True


def hang(handler: Handler) -> None:
    handler.server.ended.wait(60)


def garbage(handler: Handler) -> None:
    handler.wfile.write(b"\x00\xff\x15\x03 not HTTP at all\r\n\r\n" * 40)
    handler.close_connection = True


def drip(first: bytes) -> Way:
    """A byte now and then, for ever: no single read ever times out."""

    def way(handler: Handler) -> None:
        handler.wfile.write(first)
        while not handler.server.ended.wait(0.05):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    return way


def echo(handler: Handler) -> None:
    """Says the address back, in the status line, a header and the body."""
    handler.send_response(403, f"no service at {handler.path}")
    handler.send_header("X-Path", handler.path)
    handler.send_header("Content-Length", str(len(handler.path)))
    handler.end_headers()
    handler.wfile.write(handler.path.encode())


@contextmanager
def receiver(way: Way = taken, certificate: tuple[Path, Path] | None = None) -> Iterator[Server]:
    """Serves until the block ends; with a certificate and its key over TLS."""
    server = Server(way)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()


@dataclass
class Waits:
    """Instead of `time.sleep`: remembers how long it would have slept."""

    seconds: list[float] = field(default_factory=list)

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
