"""Where notifications wait that could not be delivered: the next run sends them.

On one machine each is a file in `.undelivered/`. A pod's files are lost with it, so a cluster keeps each as
an MLflow run named `notify`, over REST: the image of the exit task holds no MLflow.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from retrainer.errors import SettingError
from retrainer.services import runs_over_rest
from retrainer.services.address import is_server, tracking_uri

FOLDER = Path(".undelivered")
NOTIFICATION = "retrainer.notification"
DELIVERED = "retrainer.notification.delivered"

Told = dict[str, Any]

_ID = re.compile("[0-9a-f]{16}")


class Outbox(Protocol):
    """Keys name what waits; every method raises OSError or UserError when the place cannot be used.

    first: whether an event is kept before it is sent, so that not even a kill in between loses it.
    """

    first: bool

    def keep(self, told: Told) -> str: ...

    def waiting(self) -> Iterator[tuple[str, Told]]:
        """What waits, newest first."""

    def done(self, key: str) -> None:
        """Forgets what was delivered."""


class FolderOutbox:
    first = True

    def __init__(self, root: Path) -> None:
        self.folder = root / FOLDER

    def __str__(self) -> str:
        return f"{FOLDER}/"

    def keep(self, told: Told) -> str:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        path = self.folder / f"{told['id']}.json"
        aside = path.with_suffix(f".{os.getpid()}")
        aside.write_text(json.dumps(told), encoding="utf-8")
        aside.replace(path)
        return path.name

    def waiting(self) -> Iterator[tuple[str, Told]]:
        found = [_read(path) for path in self.folder.glob("*.json") if _ID.fullmatch(path.stem)]
        found.sort(key=lambda told: str(told.get("time")), reverse=True)
        yield from ((f"{told['id']}.json", told) for told in found if told)

    def done(self, key: str) -> None:
        (self.folder / key).unlink(missing_ok=True)


class RunsOutbox:
    first = False

    def __init__(self) -> None:
        self.uri = tracking_uri()

    def __str__(self) -> str:
        return "MLflow (a run named notify)"

    def keep(self, told: Told) -> str:
        if not is_server(self.uri):
            raise SettingError("MLFLOW_TRACKING_URI names no server")
        tags = {NOTIFICATION: json.dumps(told), DELIVERED: "no", "retrainer.step": "notify"}
        return runs_over_rest.create(self.uri, "notify", tags, "FAILED")

    def waiting(self) -> Iterator[tuple[str, Told]]:
        found = runs_over_rest.search(self.uri, {DELIVERED: "no"}) if is_server(self.uri) else []
        for run in found:
            yield run.run_id, _parsed(run.tags.get(NOTIFICATION, ""))

    def done(self, key: str) -> None:
        runs_over_rest.set_tag(self.uri, key, DELIVERED, "yes")
        runs_over_rest.end(self.uri, key, "FINISHED")


def _read(path: Path) -> Told:
    """What a file holds; empty for one that another run has delivered meanwhile."""
    try:
        return _parsed(path.read_text(encoding="utf-8")) | {"id": path.stem}
    except FileNotFoundError:
        return {}


def _parsed(text: str) -> Told:
    """What was kept; empty when somebody else wrote there."""
    try:
        told = json.loads(text)
    except ValueError:
        return {}
    return dict(told) if isinstance(told, Mapping) else {}
