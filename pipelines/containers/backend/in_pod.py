"""The launcher's work inside a step's container; a rehearsal runs this file there, as the first process.

Standard library alone, for any Python of the image. It reads `plan.json` beside it and writes `report.json`.
Rules: kubeflow/pipelines 2.17.0, backend/src/v2.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

_CHUNK = 1 << 16


class Failed(Exception):
    """Why the launcher would fail."""


def download(stored: Path, local: Path) -> None:
    """An artifact as it lies in the store, file by file (objectstore/object_store.go:176-205, 235-265).

    Where nothing lies, nothing comes and nothing is said.
    """
    if stored.is_dir():
        for inside in sorted(stored.iterdir()):
            download(inside, local / inside.name)
    elif stored.exists():
        local.parent.mkdir(parents=True, exist_ok=True)
        _copy(stored, local)


def upload(local: Path, stored: Path) -> bool:
    """Puts an artifact into the store, as UploadBlob does (objectstore/object_store.go:111-144, 207-233).

    A link to a file becomes a file, an empty directory vanishes. False when there is nothing. Raises Failed
    for what it cannot read, and for a link to nothing, where the launcher stops uploading and says little.
    """
    if not local.exists():
        if local.is_symlink():
            raise Failed(f"its output {local} is a link to nothing")
        return False
    if not local.is_dir():
        _put(local, stored)
        return True
    for entry in sorted(os.scandir(local), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            upload(Path(entry.path), stored / entry.name)
        else:
            _put(Path(entry.path), stored / entry.name)
    return True


def _put(local: Path, stored: Path) -> None:
    if local.is_dir():
        raise Failed(f"{local} is a link to a directory, which the launcher cannot upload")
    if not local.exists():
        raise Failed(
            f"{local} is a link to nothing: the launcher would stop uploading there, and say nothing"
        )
    if not local.is_file():
        raise Failed(f"{local} is no file, and the launcher cannot upload it")
    stored.parent.mkdir(mode=0o777, parents=True, exist_ok=True)
    _copy(local, stored)


def _copy(source: Path, target: Path) -> None:
    try:
        with source.open("rb") as read, target.open("wb") as write:
            while chunk := read.read(1 << 20):
                write.write(chunk)
    except OSError as error:
        raise Failed(f"{source} cannot be copied: {error.strerror}") from None


def make_folders(folders: list[str]) -> None:
    """Parents of the outputs; none of an output itself (component/launcher_v2.go:1280-1307)."""
    for folder in folders:
        try:
            Path(folder).mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise Failed(f"the launcher cannot make {folder}: {error.strerror}") from None


def run(words: list[str], patience_seconds: float) -> int:
    """Runs the step with its output through a pipe, as the launcher does where it keeps logs.

    component/launcher_v2.go:699-717: it waits until every process that holds the output has ended. Returns
    the step's exit code, negative for a signal. Raises Failed when one holds it for `patience_seconds` more.
    """
    reader, writer = os.pipe()
    try:
        step = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer)
    except OSError as error:
        raise Failed(f"{words[0]} cannot be started: {error.strerror}") from None
    os.close(writer)
    shown = threading.Thread(target=_show, args=(reader,), daemon=True)
    shown.start()
    code = step.wait()
    shown.join(patience_seconds)
    if shown.is_alive():
        raise Failed(
            f"it ended, but a process that it left behind holds its output ({_holders(reader)}):"
            " on a cluster the pod would wait for that one, and never end"
        )
    return code


def _show(reader: int) -> None:
    while chunk := os.read(reader, _CHUNK):
        os.write(1, chunk)


def _holders(reader: int) -> str:
    """The commands of the processes that can still write into the pipe."""
    pipe, found = Path(f"/proc/self/fd/{reader}").readlink(), set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink() == pipe and link.parts[2] != str(os.getpid()):
                words = Path("/proc", link.parts[2], "cmdline").read_bytes().replace(b"\0", b" ")
                found.add(words.decode(errors="replace").strip()[:200])
        except OSError:
            continue
    return ", ".join(sorted(found)) or "it has just ended"


def read(path: str | Path) -> str | None:
    """A file's text; None where there is none. Raises Failed for bytes that are no text."""
    try:
        return Path(path).read_bytes().decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"{path} cannot be read: {error}") from None


def launch(plan: dict[str, Any], report: dict[str, Any]) -> None:
    """The launcher's order: inputs, folders, the step, its words, its outputs (launcher_v2.go:436-471)."""
    for stored, local in plan["inputs"]:
        download(Path(stored), Path(local))
    make_folders(plan["folders"])
    report["exit_code"] = run(plan["words"], plan["patience_seconds"])
    if report["exit_code"] != 0:
        return
    report["executor_output"] = read(plan["executor_output"])
    found = {name: read(path) for name, path in plan["parameters"].items()}
    report["parameters"] = {name: text for name, text in found.items() if text is not None}
    os.umask(0)  # whoever runs the rehearsal takes the files from here
    for local, stored in plan["outputs"]:
        upload(Path(local), Path(stored))


def main(folder: Path) -> int:
    """Exits with 1 whatever the step's own code was (cmd/launcher-v2/main.go:56-61)."""
    report: dict[str, Any] = {"exit_code": None, "failure": ""}
    try:
        launch(json.loads((folder / "plan.json").read_text(encoding="utf-8")), report)
    except Failed as failure:
        report["failure"] = str(failure)
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    return 1 if report["failure"] or report["exit_code"] else 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).parent))
