"""One run of a recipe at a time, and putting things right after a run that was killed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from retrainer.errors import UserError

if TYPE_CHECKING:
    import psutil

RUNNER = "RETRAINER_RUNNER_PID"
_PATIENCE_SECONDS = 5.0
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@contextmanager
def recipe_lock(recipe: str, root: Path) -> Iterator[bool]:
    """Holds `.run/<recipe>/lock`, which falls with the process. Cleans up when its last holder was killed.

    Yields whether it was. Raises UserError that names the other process when there is one.
    """
    path = root / ".run" / recipe / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = path.read_text(encoding="utf-8").strip() or "unknown"
            raise UserError(
                f"process {pid} is running {recipe} in this directory; wait for it, or end it"
            ) from None
        handle.seek(0)
        if left := handle.read().strip():
            _clean_up_after(int(left), recipe, root)
        _note(path, str(os.getpid()))
        try:
            yield bool(left)
        finally:
            _note(path, "")


def _note(path: Path, text: str) -> None:
    """Written in place: a renamed file would carry no lock."""
    path.write_text(text, encoding="utf-8")


def _clean_up_after(runner: int, recipe: str, root: Path) -> None:
    _end_steps_of(runner)
    for aside in (root / "runs" / recipe).glob(".*.*"):
        shutil.rmtree(aside, ignore_errors=True)
    _forget_in_rwlock(runner, root / ".dvc" / "tmp")
    repair_dvc_lock(root)


def _end_steps_of(runner: int) -> None:
    """A step ends by itself when its runner is gone; one that still does so must not write beside ours."""
    import psutil

    if psutil.pid_exists(runner):
        return  # the number has been given to another process, so the old steps ended long ago
    steps = [process for process in psutil.process_iter() if _started_by(process, runner)]
    _, stubborn = psutil.wait_procs(steps, timeout=_PATIENCE_SECONDS)
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=_PATIENCE_SECONDS)


def _started_by(process: psutil.Process, runner: int) -> bool:
    import psutil

    try:
        return process.environ().get(RUNNER) == str(runner)
    except (psutil.Error, OSError):
        return False


def _forget_in_rwlock(runner: int, folder: Path) -> None:
    """DVC frees a dead process's paths, but not if its number is in use again or the file was cut short."""
    from dvc.lock import make_lock

    path = folder / "rwlock"
    if not path.is_file():
        return
    with make_lock(str(folder / "rwlock.lock"), tmp_dir=str(folder)):
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            path.unlink()
            return
        write = {key: info for key, info in held.get("write", {}).items() if info.get("pid") != runner}
        read = {
            key: kept
            for key, infos in held.get("read", {}).items()
            if (kept := [info for info in infos if info.get("pid") != runner])
        }
        path.write_text(json.dumps({"write": write, "read": read}), encoding="utf-8")


def keep_dvc_lock(root: Path) -> None:
    """Keeps a copy of `dvc.lock`: DVC writes that file in place, so a kill can cut it short."""
    kept = _kept(root)
    aside = kept.with_name(f"{kept.name}.{time.monotonic_ns()}")
    shutil.copyfile(root / "dvc.lock", aside)
    aside.replace(kept)


def repair_dvc_lock(root: Path) -> None:
    """Puts the copy back when `dvc.lock` cannot be read; without one, DVC's run cache has the pure steps."""
    path = root / "dvc.lock"
    if not path.is_file() or _readable(path):
        return
    if _kept(root).is_file():
        shutil.copyfile(_kept(root), path)
    else:
        path.unlink()


def _kept(root: Path) -> Path:
    return root / ".run" / "dvc.lock"


def _readable(path: Path) -> bool:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 (a safe one)
    except (yaml.YAMLError, UnicodeDecodeError):
        return False
    return isinstance(content, dict) and isinstance(content.get("stages"), dict)
