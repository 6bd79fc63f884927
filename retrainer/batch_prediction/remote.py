"""Inputs and outputs that lie in S3: brought here before rows are predicted, and put there afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from retrainer.batch_prediction.mask_files import FOLDER as MASKS
from retrainer.batch_prediction.partial import ABOUT, REJECTED
from retrainer.errors import SettingError, UserError
from retrainer.services import storage
from retrainer.services.scratch import scratch_directory

# In the name of an output: when the run was due, so that each of a schedule's runs has a file of its own.
TIME = "{time}"


def with_time(output: str, time: str) -> str:
    """`output` with `time` (2026-11-27T03:00:00Z; empty: now) in the place of {time}, without colons."""
    moment = time or f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return output.replace(TIME, moment.replace(":", "-"))


@contextmanager
def places_here(given: str, output: str) -> Iterator[tuple[str, str]]:
    """Paths on this machine for an input and an output of which either may be an s3:// address.

    Behind the block what was written for such an output is put there, the rejected rows also where the block
    raises. Raises UserError where S3 cannot be used; one that the block raises names the addresses, as the
    paths are gone by then.
    """
    if not (storage.is_remote(given) or storage.is_remote(output)):
        yield given, output
        return
    if storage.is_remote(given) and not output:
        raise SettingError(f"INPUT={given} lies in S3: name where the predictions go by OUTPUT")
    if storage.is_remote(output):
        storage.require_bucket(output, "OUTPUT")
    with scratch_directory() as scratch:
        here, out = given, output
        if storage.is_remote(given):
            here = str(storage.fetch(given, scratch / "input", "INPUT"))
        if storage.is_remote(output):
            out = str(scratch / "output" / PurePosixPath(output).name)
        try:
            yield here, out
        except UserError as error:
            raise type(error)(str(error).replace(here, given).replace(out, output)) from None
        finally:
            if out != output:
                _put(Path(out), output)


def _put(out: Path, address: str) -> None:
    """The output comes last: whoever finds it finds the others too."""
    for mask in sorted(out.with_name(out.name + MASKS).glob("*")):
        storage.put(mask, f"{address}{MASKS}/{mask.name}", "OUTPUT")
    for ending in (REJECTED, ABOUT, ""):
        file = out.with_name(out.name + ending)
        if file.is_file():
            storage.put(file, address + ending, "OUTPUT")
