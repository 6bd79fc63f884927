"""The page to try a model by hand: in a browser, and as a process beside a server that answers by a rule."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from retrainer.services.isolated import without_secrets
from tests.browser import Page
from tests.conftest import ROOT
from tests.mlflow_server import free_port

PAGE = ROOT / "retrainer/serving/page.py"
TITLE = "models:/a_model_with-a-*long*-name/12"
_START_SECONDS = 90
# Runs the module that its arguments name, and writes down whom the process calls.
_WATCHED = """
import runpy, sys
log = open(sys.argv.pop(1), "w", buffering=1)
calls = {"socket.connect": 1, "socket.getaddrinfo": 0, "socket.sendto": 1}
sys.addaudithook(lambda name, given: name in calls and log.write(f"{given[calls[name]]}\\n"))
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""

READY = "[...document.querySelectorAll('button')].some((one) => one.innerText === 'Ask')"
IDLE = "document.querySelector('.stApp')?.dataset.testScriptState === 'notRunning'"
ANSWER = "(document.querySelector('h2')?.innerText ?? '')"
ERROR = """(() => {
  const alert = document.querySelector(".stAlert"), texts = [...document.querySelectorAll(".stText")];
  const after = texts.find((one) => alert && alert.compareDocumentPosition(one) & 4);
  return after?.innerText ?? "";
})()"""


def press(tab: Page, text: str) -> None:
    """What was typed counts as soon as its field is left."""
    tab.evaluate("document.activeElement.blur()")
    tab.wait_for(IDLE)
    button = f"[...document.querySelectorAll('button')].find((one) => one.innerText === {text!r})"
    tab.wait_for(f"{button} !== undefined")
    tab.evaluate(f"{button}.click()")


@dataclass
class Shown:
    """The page's `address`, each request that it `sent`, and the process of it."""

    address: str
    asks: str
    process: subprocess.Popen[bytes]
    calls: Path
    sent: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def scoring(rule: Callable[[dict[str, Any]], dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server on loopback that answers each row by the rule; its address, and each request that it got."""
    sent: list[dict[str, Any]] = []

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            try:
                found = {"predictions": [rule(row) for row in sent[-1]["dataframe_records"]]}
                self.say(200, found)
            except ValueError as error:
                self.say(400, {"message": str(error)})

        def say(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", sent
        server.shutdown()


def write_told(folder: Path, asks: str, columns: dict[str, str]) -> Path:
    path = folder / "told.json"
    path.write_text(json.dumps({"title": TITLE, "address": f"{asks}/invocations", "columns": columns}))
    return path


@contextmanager
def shown(
    folder: Path, columns: dict[str, str], rule: Callable[[dict[str, Any]], dict[str, Any]]
) -> Iterator[Shown]:
    """The page as a process, with a home of its own below `folder`."""
    port, home, calls = str(free_port()), folder / "home", folder / "calls.txt"
    home.mkdir()
    with scoring(rule) as (asks, sent):
        told = str(write_told(folder, asks, columns))
        module = ["retrainer.serving.page_process", told, str(os.getpid()), "127.0.0.1", port]
        process = subprocess.Popen(
            [sys.executable, "-P", "-B", "-c", _WATCHED, str(calls), *module],
            cwd=home,
            env=without_secrets(home),
        )
        try:
            _wait(f"http://127.0.0.1:{port}/_stcore/health", process)
            yield Shown(f"http://127.0.0.1:{port}/", asks, process, calls, sent)
        finally:
            process.kill()
            process.wait()


def _wait(address: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        assert process.poll() is None and time.monotonic() < until
        try:
            urllib.request.urlopen(address, timeout=60).close()
            return
        except OSError:
            time.sleep(0.1)
