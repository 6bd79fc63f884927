"""One writer at a time under a registered model's name, among the processes of this machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from retrainer.errors import ModelError
from retrainer.formats.files import digest_of
from retrainer.services.address import registry_uri, sqlite_path
from retrainer.services.database import locked


def holds_for_all() -> bool:
    """Whether the lock keeps out everyone who can write: a sqlite file has it beside it, a server has not."""
    return sqlite_path(registry_uri()) is not None


@contextmanager
def registry_lock(name: str) -> Iterator[None]:
    """Waits for the lock of the name; it falls with the process. Raises UserError when it cannot be had."""
    with ExitStack() as stack:
        path = _lock_file(name)
        try:
            stack.enter_context(locked(path))
        except OSError as error:
            raise ModelError(
                f"{path}: cannot be made or opened to lock '{name}' ({error.strerror})"
            ) from None
        yield


def _lock_file(name: str) -> Path:
    database = sqlite_path(registry_uri())
    if database is not None:
        database = database.resolve()  # one lock, by whatever link the file is reached
        return database.with_name(f"{database.name}.{name}.lock")
    key = digest_of([registry_uri(), name, os.getuid()])[:16]
    return Path(tempfile.gettempdir()) / f"retrainer-{key}.lock"
