"""`make search`: a page that finds the rows of a recipe's dataset most like a picture, a text or a sound."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from retrainer.errors import ModelError, SettingError
from retrainer.resolve import settle
from retrainer.serving.listening import LOOPBACK, MOST_PORT, address_of, parse_number, refuse_taken
from retrainer.settings import Compute

PORT = "8090"


@dataclass(frozen=True)
class Request:
    """By the model directory `model`, or else the recipe's champion, or its latest model."""

    recipe: str
    port: int = int(PORT)
    model: Path | None = None
    root: Path = Path()


def parse_request(recipe: str, port: str, model: Path | None) -> Request:
    """Raises SettingError for a port that is none."""
    return Request(recipe, parse_number(port, "PORT", MOST_PORT), model)


def search(request: Request) -> NoReturn:
    """Becomes the page, on this machine alone. Raises UserError where there is nothing to search."""
    from retrainer.services.isolated import without_secrets
    from retrainer.services.scratch import scratch_directory_across_exec

    refuse_taken(LOOPBACK, request.port)
    if find_spec("streamlit") is None:
        raise SettingError("make search shows a page by Streamlit: pip install 'retrainer[page]'")
    scratch = scratch_directory_across_exec()
    told, lines = prepared(request, scratch)
    print(
        "\n".join([*lines, f"{address_of(LOOPBACK, request.port)} shows the page; Ctrl-C ends it"]),
        flush=True,
    )
    home = scratch / "home"
    home.mkdir()
    environment = without_secrets(home)
    # A plug-in's task is the project's own.
    environment["PYTHONPATH"] += os.pathsep + str(request.root.absolute())
    words = [
        str(told),
        str(os.getppid()),
        LOOPBACK,
        str(request.port),
        str(Path(__file__).with_name("page.py")),
    ]
    os.chdir(home)
    command = [sys.executable, "-P", "-B", "-m", "retrainer.serving.page_process", *words]
    os.execve(sys.executable, command, environment)


def prepared(request: Request, scratch: Path) -> tuple[Path, list[str]]:
    """The file by which the page knows what to search, and what to say of it."""
    import numpy as np

    from retrainer.predict import Predictor
    from retrainer.search.index import index_of, require_searchable, rows_of
    from retrainer.search.measure import said
    from retrainer.suggest.command import model_of
    from retrainer.training.compute import for_scoring, prepare, resolve_compute

    recipe, sections = settle(request.recipe or None, [], request.root)
    folder = (request.root / "runs" / recipe).absolute()
    if not (folder / "dataset").is_dir():
        raise ModelError(f"there is no {folder / 'dataset'} to search; run make pipeline")
    directory, title = model_of(request.model, sections["registry"], folder, scratch)
    compute = sections["compute"]
    assert isinstance(compute, Compute)
    predictor = Predictor.load(directory, str(prepare(for_scoring(resolve_compute(compute)))))
    require_searchable(predictor)
    index = index_of(rows_of(folder / "dataset", predictor), predictor)
    np.save(scratch / "features.npy", index.features)
    told = scratch / "told.json"
    about = {
        "title": f"{recipe}: search",
        "by": title,
        "model": str(directory.absolute()),
        "dataset": str(folder / "dataset"),
        "features": str(scratch / "features.npy"),
        "recall": index.recall,
    }
    told.write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
    measured = said(index.recall) or ["rows have no classes, so how good the search is was not measured"]
    return told, [f"{'model':<14}{title}", f"{'rows':<14}{len(index.table):,}", *measured]
