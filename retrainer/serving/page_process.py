"""Run alone: a page by Streamlit, such as that to try a served model by hand, beside the scoring server.

    python -P -B -m retrainer.serving.page_process TOLD PARENT HOST PORT [PAGE]

PAGE is the page's file, by default `page`, and TOLD what it reads. The process ends with its PARENT, however
that ends. Streamlit asks nobody and writes nothing: docs/decisions/0034-serving.md says where in its source
each option is read.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
import time
from pathlib import Path

from retrainer.serving.listening import THIS_MACHINE, address_of

_PAGE = Path(__file__).with_name("page.py")
_WATCH_SECONDS = 0.5
# In megabytes; one upload is a few times as much in memory.
MOST_UPLOAD = 64
_OPTIONS = {
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "client.toolbarMode": "minimal",
    "global.developmentMode": "false",
    "logger.hideWelcomeMessage": "true",
    "logger.level": "warning",
    "runner.magicEnabled": "false",
    "server.enableCORS": "true",
    "server.enableStaticServing": "false",
    "server.enableXsrfProtection": "true",
    "server.fileWatcherType": "none",
    "server.headless": "true",
    "server.maxUploadSize": str(MOST_UPLOAD),
    "server.runOnSave": "false",
    "theme.dark.primaryColor": "#2a5bd7",
    "theme.light.primaryColor": "#2a5bd7",
}


def words(told: str, host: str, port: str, page: str = str(_PAGE)) -> list[str]:
    """The command line of Streamlit. Options on it win over a user's files and environment."""
    options = _OPTIONS | {"server.address": host, "server.port": port}
    # Frames of Streamlit's own sites steer the page otherwise; nobody's is this one.
    options["client.allowedOrigins"] = address_of(host, port)
    given = [f"--{name}={value}" for name, value in options.items()]
    if host in THIS_MACHINE:  # a site whose name is made to lead here is not let in
        given += [f"--server.allowedHosts={name}" for name in THIS_MACHINE]
    return ["streamlit", "run", page, *given, "--", told]


def main(told: str, parent: str, host: str, port: str, page: str = str(_PAGE)) -> None:
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    sys.argv = words(told, host, port, page)
    runpy.run_module("streamlit", run_name="__main__", alter_sys=True)


def _end_with(parent: int) -> None:
    """Nothing here is worth waiting for."""
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
