"""What is asked of the registry while processes crowd it or die, and what must be true of it then."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrainer.registry.history import DONE, MOVING, Move, moves
from retrainer.services import lookup
from retrainer.services.readers import MODEL_SHA256, reader_of
from tests.champions import NAME
from tests.registry_workers import Job, start

MOVES: dict[str, tuple[str, ...]] = {
    "promote": ("promote", "3", "by hand"),
    "rollback": ("rollback", "too slow"),
}


def registering(folder: Path, seed: int, number: int = 0) -> tuple[str, ...]:
    return ("register", f"model-{seed}", f"model-{seed}-report", str(folder / f"registered-{seed}-{number}"))


@contextmanager
def watched(uri: str) -> Iterator[Counter[str]]:
    """Counts which version is champion (or "none") while the block runs, as often as it can be asked."""
    seen: Counter[str] = Counter()
    over = threading.Event()

    def look() -> None:
        reader = reader_of(uri)
        while not over.is_set():
            found = reader.by_alias(NAME, lookup.CHAMPION)
            seen[found.version if found else "none"] += 1
            time.sleep(0.002)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def check_true_history() -> list[Move]:
    """Every move that was done starts where the one before ended, and the last ends at the champion."""
    told = moves(NAME)
    done = [move for move in told if move.state == DONE]
    at = ""
    for move in done:
        assert move.before == at, told
        at = move.to
    state = lookup.state(NAME)
    assert state[lookup.CHAMPION] == at, told
    assert state[lookup.CHALLENGER] != at, "the champion is not its own challenger"
    assert MOVING not in {move.state for move in told}
    return told


def check_no_leftovers(file: Path) -> None:
    """One usable version a model, and no part of MLflow's that belongs to none."""
    with sqlite3.connect(file) as database:
        ask = lambda query: [row[0] for row in database.execute(query)]  # noqa: E731
        alive = "FROM model_versions v WHERE v.current_stage != 'Deleted_Internal'"
        tag = "(SELECT value FROM model_version_tags t WHERE t.name = v.name AND t.version = v.version"
        models = ask(f"SELECT {tag} AND t.key = '{MODEL_SHA256}') {alive}")
        proven = ask(f"SELECT {tag} AND t.key = 'verification') {alive}")
        half = ask("SELECT count(*) FROM logged_models WHERE lifecycle_stage = 'active'")
    database.close()
    assert len(models) == len(set(models)), models
    assert set(proven) == {"passed"}
    assert half == [len(models)], "logged models without a version"


def crowd(jobs: list[Job], uri: str) -> Counter[str]:
    """Runs all of them at once; who was champion meanwhile."""
    with watched(uri) as seen:
        processes = [start(job) for job in jobs]
        for process in processes:
            process.join(300)
    assert [process.exitcode for process in processes] == [0] * len(jobs)
    return seen
