"""An output while it is written: bytes that are appended beside it, and a note of how far they go.

    .OUTPUT.part            rows, as the encoding appends them
    .OUTPUT.part.rejected   lines of OUTPUT.rejected.jsonl
    .OUTPUT.part.json       how many windows of which input, by which model, and how many bytes they are

A run that is killed leaves them. The next one of the same key cuts off what stands behind the note, and goes
on from there; one of another key begins anew.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from retrainer.errors import SettingError
from retrainer.formats.files import write_json

# Of OUTPUT: rows that were set aside, and what is known of the whole.
REJECTED, ABOUT = ".rejected.jsonl", ".json"


@dataclass(frozen=True)
class Progress:
    """Of the windows that are written: their number, their rows, and the bytes of the two files."""

    windows: int = 0
    predicted: int = 0
    rejected: int = 0
    first_rejected: str = ""
    rows_bytes: int = 0
    rejected_bytes: int = 0

    @property
    def rows(self) -> int:
        return self.predicted + self.rejected

    def after(self, predicted: int, rejected: int, first_rejected: str) -> Progress:
        """One window more."""
        return replace(
            self,
            windows=self.windows + 1,
            predicted=self.predicted + predicted,
            rejected=self.rejected + rejected,
            first_rejected=self.first_rejected or first_rejected,
        )


class Partial:
    """The files beside `out`; made by `opened`."""

    def __init__(self, out: Path, key: str, rows: IO[bytes], rejected: IO[bytes]) -> None:
        self.out, self._key = out, key
        self._rows, self._rejected = rows, rejected
        self._note = _beside(out, ".json")
        self.progress = self._found()
        for file, size in ((rows, self.progress.rows_bytes), (rejected, self.progress.rejected_bytes)):
            file.truncate(size)
            file.seek(size)

    def add(self, rows: bytes, rejected: bytes, progress: Progress) -> None:
        """A window's bytes; they are on the disk before the note says so."""
        for file, data in ((self._rows, rows), (self._rejected, rejected)):
            if data:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        self.progress = replace(progress, rows_bytes=self._rows.tell(), rejected_bytes=self._rejected.tell())
        write_json(self._note, {"key": self._key, "progress": asdict(self.progress)})

    @property
    def part(self) -> Path:
        return _beside(self.out, "")

    def put_in_place(self, whole: Path | None) -> None:
        """Renames the file of `whole` rows to OUTPUT, and what was set aside to OUTPUT.rejected.jsonl.

        Without `whole` there is no OUTPUT, as no row is predicted.
        """
        aside, rejected = _beside(self.out, ".rejected"), self.out.with_name(self.out.name + REJECTED)
        if self.progress.rejected:
            aside.replace(rejected)
        else:
            aside.unlink()
            rejected.unlink(missing_ok=True)
        if whole is not None:
            whole.replace(self.out)
        self.part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _found(self) -> Progress:
        """What an earlier run of the same key wrote, where its bytes are there."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            progress = Progress(**note["progress"])
            sizes = [os.fstat(file.fileno()).st_size for file in (self._rows, self._rejected)]
            whole = sizes[0] >= progress.rows_bytes and sizes[1] >= progress.rejected_bytes
            return progress if note["key"] == self._key and whole else Progress()
        except (OSError, ValueError, KeyError, TypeError):
            return Progress()


@contextmanager
def opened(out: Path, key: str) -> Iterator[Partial]:
    """The partial output. Raises SettingError while another run writes it, or where `out` is no place."""
    with ExitStack() as stack:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            rows, rejected = (stack.enter_context(_beside(out, e).open("ab+")) for e in ("", ".rejected"))
        except OSError as error:
            raise SettingError(
                f"OUTPUT={out} cannot be written ({error.strerror}); name another place"
            ) from None
        try:
            fcntl.flock(rows, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingError(f"OUTPUT={out} is being written by another run; name another file") from None
        yield Partial(out, key, rows, rejected)


def _beside(out: Path, ending: str) -> Path:
    return out.with_name(f".{out.name}.part{ending}")
