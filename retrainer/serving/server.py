"""Run alone, in an isolated process: MLflow's scoring server over the files of one registered version.

    python -I -B server.py SCRATCH HOST PORT WORKERS

SCRATCH is a directory of this server's own, which it deletes at the end: in it, `bundle` is the version's
files (or a link to them), `ready.txt` what to print once the server answers, and `page.json`, where there is
one, how a process is started that shows a page to try the model by hand. This imports nothing of this
project: whatever the model needs of it must have come with the model.

SIGTERM and Ctrl-C end it: it takes no further request and answers those that it has.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

_POLL_SECONDS = 0.1
_WATCH_SECONDS = 0.5
# Where KServe's first protocol has its models.
_V1 = "/v1/models/"
# What a model raises where the input is wrong, as a traceback's last line begins; all else is its own fault.
_INPUT_ERRORS = re.compile(r"(ValueError|retrainer\.errors\.\w+): ")


def main(scratch: str, host: str, port: str, workers: str) -> None:
    import uvicorn
    from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT

    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn hands the signal on when the last request has been answered.
        signal.signal(number, lambda *_: sys.exit(0))
    page = _Page(Path(scratch))
    threading.Thread(target=_tell_when_ready, args=(Path(scratch), host, port, page), daemon=True).start()
    try:
        uvicorn.run(
            "__main__:app",
            factory=True,
            host=host,
            port=int(port),
            workers=int(workers),
            log_level="warning",
            access_log=False,
            # No request lives longer; without it a client that is silent for good would hold the server.
            timeout_graceful_shutdown=MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get(),
        )
    finally:
        page.end()
        shutil.rmtree(Path(scratch).parent, ignore_errors=True)


class _Page:
    """The process of the page, where there is one. It ends by itself when this process is killed."""

    def __init__(self, scratch: Path) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.ended = False
        file = scratch / "page.json"
        if not file.is_file():
            return
        self.told = json.loads(file.read_text(encoding="utf-8"))
        # A group of its own: Ctrl-C is for this process, which answers its requests before it ends that one.
        self.process = subprocess.Popen(
            self.told["command"],
            cwd=self.told["environment"]["HOME"],
            env=self.told["environment"],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait_and_tell(self) -> None:
        """Prints where it is as soon as it answers."""
        while self.process and not self.ended:
            if self.process.poll() is not None:
                print("the page to try the model ended at its start; what is wrong stands above", flush=True)
                return
            if _answers(self.told["health"]):
                print(self.told["greeting"], flush=True)
                return
            time.sleep(_POLL_SECONDS)

    def end(self) -> None:
        """At once: it has nothing to finish."""
        self.ended = True
        if self.process:
            self.process.kill()
            self.process.wait()


def app() -> FastAPI:
    """MLflow's server over the model, in each worker."""
    from mlflow.pyfunc import scoring_server

    if __name__ != "__main__":
        _end_with(os.getppid())
    try:
        model = scoring_server.load_model_with_mlflow_config(str(Path(sys.argv[1], "bundle").resolve()))
    except Exception as error:
        from uvicorn.config import STARTUP_FAILURE  # with this status no worker is started again

        print(f"the model does not load: {_in_one_line(error)}", file=sys.stderr, flush=True)
        sys.exit(STARTUP_FAILURE)
    made = scoring_server.init(model)
    _speak_v1(made)
    made.middleware("http")(reason_first)
    made.add_exception_handler(Exception, _failed)
    return made


def _speak_v1(app: FastAPI) -> None:
    """KServe's first protocol, which its graphs, batcher, transformers and clients ask (v0.20.0, pkg/
    constants/constants.go:838 and 842). The bodies are those of MLflow's `instances` and `predictions`.

    The name in the path is KServe's for the service, and not looked at: this server has one model.
    """
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    (asked,) = [one for one in app.routes if isinstance(one, Route) and one.path == "/invocations"]
    app.add_api_route(_V1 + "{name}:predict", asked.endpoint, methods=["POST"])

    def ready(request: Request) -> Response:
        name = request.path_params["name"]
        if ":" in name:
            raise HTTPException(405, "predictions are asked for by POST")
        return JSONResponse({"name": name, "ready": True})

    app.router.routes.append(Route(_V1 + "{name}", ready))


async def reason_first(request: Request, call_next: Any) -> Response:
    """The answer; where it is an error, its body starts with the reason, and holds neither the input nor a
    traceback, which MLflow puts there."""
    from fastapi.responses import JSONResponse

    if request.method == "POST" and "content-type" not in request.headers:
        # A page of another site can send this much without asking first, and names its origin.
        if not request.url.path.startswith(_V1) or "origin" in request.headers:
            missing = {
                "message": "there is no Content-Type; application/json is one",
                "error_code": "BAD_REQUEST",
            }
            return JSONResponse(missing, 415)
        # KServe's batcher names none (v0.20.0, pkg/batcher/handler.go:104), and its protocol is JSON.
        request.scope["headers"] = [*request.scope["headers"], (b"content-type", b"application/json")]
    response: Response = await call_next(request)
    if response.status_code < 400:
        return response
    body = b"".join([part async for part in response.body_iterator])  # type: ignore[attr-defined]
    status, reason = explained(response.status_code, body)
    return JSONResponse({"message": reason, "error_code": _error_code(status)}, status)


def explained(status: int, body: bytes) -> tuple[int, str]:
    """The status and the reason of an error, from MLflow's own answer.

    What a model raises is status 400 to MLflow, whoever is to blame; here it is 500 unless the input is.
    """
    try:
        found = json.loads(body)
        text = str(found.get("message") or found["detail"])
    except (ValueError, KeyError, AttributeError):
        return status, body.decode(errors="replace")
    if trace := found.get("stack_trace"):
        print(trace, file=sys.stderr, flush=True)
        last = trace.strip().splitlines()[-1]
        if _INPUT_ERRORS.match(last):
            return status, _INPUT_ERRORS.sub("", last)
        return 500, f"the model failed: {last}"
    if text.startswith("Failed to predict data"):
        text = text.rpartition("Error: ")[2]
    return status, text.partition("\nInput: ")[0].removeprefix("Invalid input. ")


def _error_code(status: int) -> str:
    from mlflow.exceptions import HTTP_STATUS_TO_ERROR_CODE

    return HTTP_STATUS_TO_ERROR_CODE.get(status, "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR")


def _failed(_: Request, error: Exception) -> Response:
    from fastapi.responses import JSONResponse

    return JSONResponse({"message": _in_one_line(error), "error_code": "INTERNAL_ERROR"}, 500)


def _in_one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _tell_when_ready(scratch: Path, host: str, port: str, page: _Page) -> None:
    """Prints `ready.txt` as soon as the server answers, and then where the page is."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    address = f"[{reached}]" if ":" in reached else reached
    while not _answers(f"http://{address}:{port}/ping"):
        time.sleep(_POLL_SECONDS)
    print((scratch / "ready.txt").read_text(encoding="utf-8"), flush=True)
    page.wait_and_tell()


def _answers(address: str) -> bool:
    # A proxy of the environment's has no business here.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(address, timeout=60).close()
    except OSError:
        return False
    return True


def _end_with(parent: int) -> None:
    """Ends this worker as a signal would when its parent is gone, however that one ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
