"""One writer at a time under a registered model's name, among the processes of this machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrainer.formats.files import digest_of
from retrainer.services.address import registry_uri, sqlite_path
from retrainer.services.database import locked


def holds_for_all() -> bool:
    """Whether the lock keeps out everyone who can write: a sqlite file has it beside it, a server has not."""
    return sqlite_path(registry_uri()) is not None


@contextmanager
def registry_lock(name: str) -> Iterator[None]:
    """Waits for the lock of the name; it falls with the process."""
    database = sqlite_path(registry_uri())
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
        lock = database.with_name(f"{database.name}.{name}.lock")
    else:
        key = digest_of([registry_uri(), name, os.getuid()])[:16]
        lock = Path(tempfile.gettempdir()) / f"retrainer-{key}.lock"
    with locked(lock):
        yield
