"""From windows of rows to bytes of an output, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from retrainer.batch_prediction.answers import OWN_NAMES
from retrainer.batch_prediction.encodings import Encoding, json_line, plain_rows
from retrainer.batch_prediction.mask_files import MaskFiles, are_masks
from retrainer.batch_prediction.partial import Progress
from retrainer.batch_prediction.progress import ProgressBar
from retrainer.batch_prediction.readers import Input
from retrainer.batch_prediction.scoring import Scorer
from retrainer.batch_prediction.windows import Window
from retrainer.errors import DataError


def predict_windows(
    found: Input,
    scorer: Scorer,
    encoding: Encoding,
    progress: Progress,
    write: Callable[[bytes, bytes, Progress], None],
    masks: MaskFiles | None = None,
) -> Progress:
    """Predicts all windows behind those that `progress` knows of, and has each written: its rows and what was
    set aside, as bytes, and how far that is. `masks`: where predicted masks go, if not into the rows."""
    if masks is not None and not progress.rows:
        masks.begin()
    bar = ProgressBar(found.total, progress.rows)
    try:
        for number, window in enumerate(_started(found, encoding)):
            if number < progress.windows:
                continue
            scored = scorer.score(_without_misfits(window, encoding))
            rejected, answers = scored.rejected, scored.answers
            if masks is not None and answers is not None and are_masks(answers):
                answers = masks.put(answers, progress.rows + 1, scored.rows)
            first = progress.predicted == 0
            rows = encoding.encode(window, scored.rows, answers, first) if answers else b""
            places = sorted(rejected)
            firsts = [f"{window.origins[row]}: {rejected[row]}" for row in places[:1]]
            progress = progress.after(len(scored.rows), len(rejected), "".join(firsts))
            write(rows, _rejected_lines(window, rejected), progress)
            bar.advance(len(window))
    finally:
        bar.close()
    return progress


def _started(found: Input, encoding: Encoding) -> Iterator[Window]:
    """The windows; the encoding knows the first one, which is empty where the input is."""
    first = next(found.windows, Window())
    if not isinstance(first.kept, list):
        for name in OWN_NAMES & set(first.kept.column_names):
            raise DataError(f"{found.title} has a column '{name}', as the output will; rename it")
    encoding.start(first)
    if len(first):
        yield first
    yield from found.windows


def _without_misfits(window: Window, encoding: Encoding) -> Window:
    """With a problem for each row whose own columns cannot stand in the output."""
    if not isinstance(window.kept, list):
        return window
    problems = [
        problem or _own_name(kept) or encoding.misfit(kept)
        for problem, kept in zip(window.problems, window.kept, strict=True)
    ]
    return replace(window, problems=problems)


def _own_name(kept: Mapping[str, Any]) -> str:
    taken = next((name for name in kept if name in OWN_NAMES), None)
    return f"has '{taken}', as the output will; rename it" if taken else ""


def _rejected_lines(window: Window, rejected: Mapping[int, str]) -> bytes:
    places = sorted(rejected)
    lines = []
    for place, kept in zip(places, plain_rows(window, places), strict=True):
        row = {"row": kept} if kept else {}
        line = {"origin": window.origins[place], "reason": rejected[place], **row}
        lines.append(json_line(line, ascii_alone=bool(window.problems[place])))
    return b"".join(lines)
