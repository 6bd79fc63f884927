"""Run alone, in a fresh isolated process: serves a registered model as MLflow does, and asks it over HTTP.

    python -I -B ask_served.py PARENT [MODULE …] <<< '["models:/NAME/VERSION", "ASKED.json", "ANSWERS.json"]'

MLflow's own scoring server runs in a thread of this process and listens on loopback; the request is posted to
/invocations as any client would post it. This imports nothing of this project: whatever the model needs of it
must have come with the model. The server and the MODULEs are imported before the line is read, which may come
much later. It ends with the process PARENT, however that one ends.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

SERVER = ("uvicorn", "mlflow.pyfunc.scoring_server")
_START_SECONDS = 60.0
_POLL_SECONDS = 0.01
_WATCH_SECONDS = 0.5


def main(parent: str, *modules: str) -> None:
    end_with(int(parent))
    for module in (*SERVER, *modules):
        # Whatever is wrong with one is told when the model needs it.
        with suppress(Exception):
            importlib.import_module(module)
    uri, request, answers = json.loads(sys.stdin.readline())
    port = serve(uri)
    answer = post(f"http://127.0.0.1:{port}/invocations", Path(request).read_bytes())
    found = {"answers": answer["predictions"], "strays": strays()}
    Path(answers).write_text(json.dumps(found), encoding="utf-8")


def end_with(parent: int) -> None:
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os._exit(143)

    threading.Thread(target=watch, daemon=True).start()


def serve(uri: str) -> int:
    """Starts MLflow's scoring server for the model; returns its port as soon as it answers."""
    import uvicorn
    from mlflow.pyfunc import scoring_server

    try:
        app = scoring_server.init(scoring_server.load_model_with_mlflow_config(uri))
    except Exception as error:
        raise SystemExit(f"it does not load: {named(error)}") from None
    # What the server itself cannot answer is told to the client here, not only to a log.
    app.add_exception_handler(Exception, lambda _, error: uncaught(error))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
    threading.Thread(target=server.run, daemon=True).start()
    until = time.monotonic() + _START_SECONDS
    while not server.started:
        if time.monotonic() > until:
            raise SystemExit("MLflow's scoring server did not start")
        time.sleep(_POLL_SECONDS)
    return int(server.servers[0].sockets[0].getsockname()[1])


def uncaught(error: Exception) -> Any:
    from fastapi.responses import Response

    return Response(named(error), status_code=500)


def named(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def post(address: str, body: bytes) -> Any:
    """The answer to a JSON request; an error of the server's ends this process with its message."""
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    # A proxy of the environment's has no business on loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"HTTP {error.code}: {reason(error.read())}") from None


def reason(body: bytes) -> str:
    """What the server says went wrong: the last line of the model's own traceback, where there is one."""
    try:
        told = json.loads(body)
        lines = str(told.get("stack_trace") or told["message"]).strip().splitlines()
    except (ValueError, KeyError, AttributeError):
        lines = body.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no reason given"


def strays() -> list[str]:
    """Our modules that came from elsewhere than a registered model: a library that is installed here."""
    ours = [module for name, module in sys.modules.items() if name.partition(".")[0] == "retrainer"]
    files = [Path(str(module.__file__)) for module in ours]
    places = {file: str(file).rpartition("/code/retrainer/")[0] for file in files}
    return sorted(str(file) for file, place in places.items() if not Path(place, "MLmodel").is_file())


if __name__ == "__main__":
    main(*sys.argv[1:])
