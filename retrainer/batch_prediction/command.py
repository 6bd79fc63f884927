"""`make predict`: a whole file or folder → predictions beside it, resumable, with what was set aside."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from retrainer import __version__
from retrainer.batch_prediction.answers import check_top_k
from retrainer.batch_prediction.encodings import Encoding, encoding_of
from retrainer.batch_prediction.mask_files import FOLDER as MASKS
from retrainer.batch_prediction.mask_files import MaskFiles
from retrainer.batch_prediction.model import LoadedModel
from retrainer.batch_prediction.partial import ABOUT, REJECTED, Partial, Progress, opened
from retrainer.batch_prediction.readers import STDIN, Input, open_input
from retrainer.batch_prediction.remote import places_here
from retrainer.batch_prediction.run import predict_windows
from retrainer.batch_prediction.scoring import Scorer
from retrainer.errors import DataError, SettingError
from retrainer.formats.files import digest_of, sha256_file, write_json
from retrainer.texts import plural

KIND, FORMAT_VERSION = "predictions", 1
STDOUT = "-"
_BESIDE = ".predictions"
_WRITTEN = (".csv", ".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True)
class Request:
    """`input`: a file, a folder, or - for lines on `stdin`. `output`: a file, whose ending says its form; -
    for JSON lines on `stdout`; empty for a file beside the input. `top_k`: see `answer_columns`. `gallery`: a
    folder of those whom a model that recognises is to know; empty: none."""

    model: LoadedModel
    input: str
    output: str = ""
    top_k: int = 0
    gallery: str = ""
    stdin: BinaryIO = field(default_factory=lambda: sys.stdin.buffer)
    stdout: BinaryIO = field(default_factory=lambda: sys.stdout.buffer)

    @property
    def place(self) -> str:
        """Where the rows go."""
        return self.output or _beside(self.input)


def predict(request: Request) -> list[str]:
    """Writes the predictions and returns what to say of them, line by line.

    Raises DataError where no row can be predicted, and UserError for settings and files that are wrong.
    """
    from retrainer.training.compute import keep_freed_memory

    check_top_k(request.top_k, request.model.predictor.labels)
    keep_freed_memory()
    if request.gallery:
        request.model.predictor.enrol(Path(request.gallery))
    with places_here(request.input, request.output) as (given, output):
        here = replace(request, input=given, output=output)
        found = open_input(given, request.model.columns, request.stdin)
        lines = _to_stdout(here, found) if here.place == STDOUT else _to_file(here, found, Path(here.place))
    return [line.replace(output, request.output) for line in lines] if output else lines


def _beside(path: str) -> str:
    """Where the output goes by default: beside the input, in its own form where that is written."""
    if path == STDIN or not path:
        return STDOUT
    place = Path(path)
    place = place.resolve() if place.name in ("", "..") else place
    ending = place.suffix.lower() if place.is_file() else ""
    stem = place.stem if place.is_file() else place.name
    return str(place.with_name(f"{stem}{_BESIDE}{ending if ending in _WRITTEN else '.csv'}"))


def _scorer(request: Request) -> Scorer:
    model = request.model
    return Scorer(model.predictor, model.columns, model.version, request.top_k)


def _to_stdout(request: Request, found: Input) -> list[str]:
    encoding = encoding_of(".jsonl")

    def write(rows: bytes, rejected: bytes, progress: Progress) -> None:  # noqa: ARG001 (nothing resumes)
        request.stdout.write(rows)
        request.stdout.flush()
        sys.stderr.write(rejected.decode())

    progress = predict_windows(found, _scorer(request), encoding, Progress(), write)
    _require_some(progress, "each reason stands above")
    return _summary(request, found, progress)


def _to_file(request: Request, found: Input, out: Path) -> list[str]:
    encoding = encoding_of(out.suffix.lower())
    _refuse_foreign_file(request, out)
    about = _about(request, found)
    with opened(out, digest_of(about | {"state": _state_of(request.input)})) as partial:
        before = partial.progress.rows
        scorer, masks = _scorer(request), _mask_files(out)
        progress = predict_windows(found, scorer, encoding, partial.progress, partial.add, masks)
        if masks is not None:
            masks.finish()
        _finish(partial, encoding, about, progress)
    rejected = out.with_name(out.name + REJECTED)
    _require_some(progress, f"all reasons: {rejected}")
    lines = _summary(request, found, progress)
    if before:
        lines.insert(1, f"{'went on':<14}behind row {before:,}, where an earlier run of the same was stopped")
    if progress.rejected:
        lines.append(f"{'set aside':<14}{rejected}")
    if masks is not None and masks.folder.is_dir():
        lines.append(f"{'masks':<14}{masks.folder}")
    return [*lines, f"{'written':<14}{out}", f"{'about it':<14}{out.name}{ABOUT}"]


def _mask_files(out: Path) -> MaskFiles | None:
    """Where predicted masks go; None where they stand in their rows, as in Parquet."""
    if out.suffix.lower() == ".parquet":
        return None
    return MaskFiles(out.with_name(out.name + MASKS), ours=out.with_name(out.name + ABOUT).is_file())


def _refuse_foreign_file(request: Request, out: Path) -> None:
    """Raises SettingError for a file that this command did not write, the input itself for instance."""
    written_by_us = out.with_name(out.name + ABOUT).is_file()
    if out.exists() and not written_by_us:
        raise SettingError(
            f"OUTPUT={out} is there, and make predict did not write it; name another file, or remove it"
        )
    folder = Path(request.input)
    if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
        raise SettingError(f"OUTPUT={out} is inside of INPUT={folder}; name a file outside of it")


def _about(request: Request, found: Input) -> dict[str, Any]:
    """What decides the output's bytes, but for the input's own."""
    import torch

    model = request.model
    return {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "retrainer": __version__,
        "model": {
            "name": model.name,
            "version": model.version,
            "model_sha256": model.predictor.model_sha256,
        },
        "input": found.title,
        "columns": dict(model.columns.names),
        "top_k": request.top_k,
        **({"gallery": _state_of(request.gallery)} if request.gallery else {}),
        "compute": {"device": str(model.predictor.device), "threads": torch.get_num_threads()},
    }


def _state_of(path: str) -> str:
    """A digest of names, sizes and times of change, by which an input is known to be the same one."""
    state = hashlib.sha256()
    for file in _files_of(Path(path)) if path != STDIN else ():
        found = file.lstat()
        state.update(os.fsencode(file) + f"\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    return state.hexdigest()


def _files_of(place: Path) -> Iterator[Path]:
    if not place.is_dir():
        yield place
    for folder, subfolders, names in os.walk(place):
        subfolders.sort()
        yield from (Path(folder, name) for name in sorted(names))


def _finish(partial: Partial, encoding: Encoding, about: dict[str, Any], progress: Progress) -> None:
    """Makes the output whole; there is none where rows were given and no one could be predicted."""
    whole = None
    if progress.predicted or not progress.rows:
        whole = encoding.finish(partial.part)
        rows = {"rows": progress.rows, "predicted": progress.predicted, "rejected": progress.rejected}
        path = partial.out.with_name(partial.out.name + ABOUT)
        write_json(path, about | rows | {"output_sha256": sha256_file(whole)})
    partial.put_in_place(whole)


def _require_some(progress: Progress, where: str) -> None:
    if progress.rejected and not progress.predicted:
        raise DataError(
            f"none of {plural(progress.rejected, 'row')} can be predicted;"
            f" the first: {progress.first_rejected} ({where})"
        )


def _summary(request: Request, found: Input, progress: Progress) -> list[str]:
    lines = [
        f"{'model':<14}{request.model.title}",
        f"{'predicted':<14}{progress.predicted:,} of {progress.rows:,} rows of {found.title}",
    ]
    if progress.rejected:
        count = plural(progress.rejected, "row")
        lines.append(f"{'rejected':<14}{count} (the first: {progress.first_rejected})")
    count, first = found.passed_over
    if count:
        lines.append(f"{'passed over':<14}{plural(count, 'file')} of another kind (the first: {first})")
    return lines
