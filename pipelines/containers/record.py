"""What a rehearsal leaves in `build/rehearsals/<id>/`, for people and for `make replay`.

    run.json         the run, as below; rewritten whole after every step
    pipeline.yaml    what was compiled, and run
    rehearsal.log    all that was shown; a line `[train] …` is the step train's own
    artifacts/       <step>/<try>/<port>, as Kubeflow's launcher stores what the steps wrote
    volumes/         what steps wrote into volume claims; pods/, the disks of a pod while it runs
    webhook.jsonl    what the pipeline's exit task told its webhook
    s3/, mlflow.db   the files of the S3 server and the database of the MLflow server; *.log, their logs

run.json has `format_version`, `id`, `recipe`, `arguments` (parameters of the pipeline other than compiled),
`state` (running, succeeded, failed or interrupted), `error`, `started` (UTC), `seconds`, `owner` (a process)
and `steps`, in the order in which they ran, each with

    name, image, state, seconds, exit_code (the step's own, null when there was none), error
    arguments        parameter → value, as Kubeflow passed it: a section is JSON text, a whole number 7.0
    inputs, outputs  port → {path, sha256, type, metadata}
    results          output parameter → value

A `path` is written relative to the rehearsal's directory; `rehearsal` makes it absolute. `sha256` is that of
a file, of a directory what `artifact_sha256` says, and empty for an output that is metadata alone.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from retrainer.errors import ServiceError, SettingError, nearest
from retrainer.formats.files import digest_of, hash_files, sha256_file, write_json
from retrainer.services.processes import is_gone, this_process

REHEARSALS = Path("build") / "rehearsals"
PIPELINE = "pipeline.yaml"
_FORMAT = 1
_KEPT = 5


def rehearsal(root: Path, name: str) -> dict[str, Any]:
    """The run.json of one rehearsal, with absolute paths. Raises UserError for an unknown one."""
    folder = root / REHEARSALS / name
    if not (folder / "run.json").is_file():
        known = [path.parent.name for path in (root / REHEARSALS).glob("*/run.json")]
        raise SettingError(f"RUN={name}: there is no such rehearsal{nearest(name, known)}")
    run: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    if run["state"] == "running" and is_gone(run["owner"]):
        run["state"] = "interrupted"
    for step in run["steps"]:
        for artifact in [*step["inputs"].values(), *step["outputs"].values()]:
            artifact["path"] = str((folder / artifact["path"]).absolute())
    return run


def artifact_sha256(path: Path) -> str:
    """A file's sha256; a directory's is one digest over its files' names and sha256; empty for nothing."""
    if path.is_dir():
        return digest_of(hash_files(path, leave_out=()))
    return sha256_file(path) if path.is_file() else ""


class Record:
    """The rehearsal in progress."""

    def __init__(self, root: Path, recipe: str) -> None:
        self.folder = _new_folder(root / REHEARSALS, recipe)
        self.folder.chmod(0o700)  # the steps may write below it as any user, so others must not come in
        self.artifacts = self.folder / "artifacts"
        self.artifacts.mkdir()
        self.run: dict[str, Any] = {
            "format_version": _FORMAT,
            "id": self.folder.name,
            "recipe": recipe,
            "arguments": {},
            "state": "running",
            "error": "",
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": 0.0,
            "owner": this_process(),
            "steps": [],
        }
        self._began = time.monotonic()
        self._write()

    @property
    def steps(self) -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = self.run["steps"]
        return steps

    def begin(self, name: str, image: str, arguments: dict[str, Any], inputs: dict[str, Any]) -> None:
        step = {
            "name": name,
            "image": image,
            "state": "running",
            "seconds": 0.0,
            "exit_code": None,
            "error": "",
        }
        self.steps.append({**step, "arguments": arguments, "inputs": inputs, "outputs": {}, "results": {}})
        self._step_began = time.monotonic()
        self._write()

    def end(self, state: str, **more: Any) -> None:
        """Settles the step that runs."""
        seconds = round(time.monotonic() - self._step_began, 2)
        self.steps[-1].update(state=state, seconds=seconds, **more)
        self._write()

    def finish(self, state: str, error: str = "") -> None:
        self.run.update(state=state, error=error, seconds=round(time.monotonic() - self._began, 2))
        self._write()

    def artifact(self, path: Path, kind: str, metadata: dict[str, Any]) -> dict[str, Any]:
        """How an artifact is written down."""
        inside = os.path.relpath(path, self.folder.absolute())
        return {"path": inside, "sha256": artifact_sha256(path), "type": kind, "metadata": metadata}

    def _write(self) -> None:
        write_json(self.folder / "run.json", self.run)


def _new_folder(parent: Path, recipe: str) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    parent.mkdir(parents=True, exist_ok=True)
    for count in range(1, 100):
        folder = parent / (f"{recipe}-{stamp}" if count == 1 else f"{recipe}-{stamp}-{count}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise ServiceError(f"{parent}: a hundred rehearsals of {recipe} in one second")


def remove_old(root: Path) -> list[str]:
    """Keeps those that still run and the newest five, first of all those that came to a step.

    Returns what became of the others.
    """
    found = []
    for path in (root / REHEARSALS).glob("*/run.json"):
        run = json.loads(path.read_text(encoding="utf-8"))
        if run["state"] != "running" or is_gone(run["owner"]):
            found.append((bool(run["steps"]), run["started"], path.parent))
    said = []
    for *_, folder in sorted(found, reverse=True)[_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)
        said.append(f"{folder} cannot be removed whole" if folder.exists() else f"removed {folder}")
    return said
