"""What `make serve` writes for the page to try a model by hand, which the server starts beside itself."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import yaml

from retrainer.errors import SettingError, UserError
from retrainer.formats.model_files import read_model
from retrainer.formats.network import task_of
from retrainer.services.isolated import without_secrets
from retrainer.serving.listening import MOST_PORT, address_of, parse_number, refuse_taken

NO_PAGE = "none"
_MISSING = "a page to try it by hand is shown where Streamlit is installed: pip install 'retrainer[page]'"


def free_page_port(asked: str, host: str, port: int) -> int | None:
    """None where no page is wanted. Raises SettingError for a port that is none, or is taken."""
    if asked == NO_PAGE:
        return None
    if not asked:
        return _first_free(host, port)
    chosen = parse_number(asked, "PAGE_PORT", MOST_PORT)
    if chosen == port:
        raise SettingError(
            f"PAGE_PORT={asked}: the server itself listens there; choose another, or {NO_PAGE}"
        )
    refuse_taken(host, chosen, "PAGE_PORT")
    return chosen


def _first_free(host: str, port: int) -> int | None:
    for candidate in range(port + 1, MOST_PORT + 1):
        try:
            refuse_taken(host, candidate)
        except SettingError:
            continue
        return candidate
    return None


def write_page(scratch: Path, uri: str, model: Path, listening: tuple[str, int, int]) -> list[str]:
    """Writes `page.json`, by which the server starts the page, where what the model reads is known here: a
    plug-in of last year may be gone. `listening`: host, the server's port, the page's.

    Returns what to print where there is no page for want of Streamlit.
    """
    try:
        types = task_of(model, read_model(model)).input_columns
    except UserError:
        return []
    if find_spec("streamlit") is None:
        return ["", _MISSING]
    host, port, page_port = listening
    told, home = scratch / "told.json", scratch / "page"
    home.mkdir()
    columns = {name: types[column] for column, name in _callers_names(scratch / "bundle").items()}
    asks = f"{address_of(host, port)}/invocations"
    _write(told, {"title": uri, "address": asks, "columns": columns})
    module = ["-P", "-B", "-m", "retrainer.serving.page_process"]
    # This process becomes the server.
    arguments = [str(told), str(os.getpid()), host, str(page_port)]
    address = address_of(host, page_port)
    started = {
        "command": [sys.executable, *module, *arguments],
        "environment": without_secrets(home),
        "health": f"{address}/_stcore/health",
        "greeting": f"{address} shows a page to try it by hand",
    }
    _write(scratch / "page.json", started)
    return []


def _callers_names(bundle: Path) -> dict[str, str]:
    described = yaml.safe_load((bundle / "MLmodel").read_text(encoding="utf-8"))
    config = described["flavors"]["python_function"]["config"]
    names = config.get("source_names", {})  # a version of an older release has none
    return {name: names.get(name, name) for name in config["columns"]}


def _write(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
