"""`make compare`: what differs in settings, data and code, and the figures on the same test rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from retrainer.comparison.differences import differences, table
from retrainer.comparison.same_rows import NotHere, Settings, by_reports, on_rows_of, with_interval
from retrainer.comparison.subjects import Place, Subject, subject_of
from retrainer.errors import SettingError
from retrainer.resolve import settle
from retrainer.services.scratch import scratch_directory
from retrainer.settings import Compute, Evaluation, Gate, Registry

# Of a version whose metrics.json is gone: its tags. Versions of before report format 2 have `calibration.…`.
_STORED = ("gate.", "details.", "calibration.", "cost.")


def compare(words: Sequence[str], recipe: str, root: Path = Path()) -> list[str]:
    """Two or more of them, as lines: each is a version, a report or a recipe (`subject_of`).

    Raises UserError for what is none, a version, model or report that was altered, and a dataset that is not
    whole.
    """
    from retrainer.training.compute import for_scoring, prepare

    if len(words) < 2:
        raise SettingError("needed are two or more: make compare A=3 B=5 C=champion")
    stem, sections = settle(recipe or None, [], root)
    name, gate = cast(Registry, sections["registry"]).name, cast(Gate, sections["gate"])
    device = str(prepare(for_scoring(cast(Compute, sections["compute"]))))
    settings = Settings(cast(Evaluation, sections["evaluation"]), gate.metric, device)
    with scratch_directory() as scratch:
        subjects = [
            subject_of(word, Place(name, stem, root, scratch / str(number)))
            for number, word in enumerate(words)
        ]
        _refuse_twice(words, [one.title for one in subjects])
        measured = _measured(subjects, root / "runs" / stem / "dataset", settings)
        return [*differences(subjects), "", *measured]


def _refuse_twice(words: Sequence[str], titles: Sequence[str]) -> None:
    for number, title in enumerate(titles):
        if title in titles[:number]:
            first = words[titles.index(title)]
            raise SettingError(f"{words[number]} is {title}, as {first} is: different ones are needed")


def _measured(subjects: Sequence[Subject], dataset: Path, settings: Settings) -> list[str]:
    """By the reports' own predictions where they are of the same rows, else on today's rows, else stored."""
    try:
        return by_reports(subjects, settings)
    except NotHere:
        pass
    try:
        return on_rows_of(dataset, subjects, settings)
    except NotHere as reason:
        return [f"stored figures only, each of its own test rows: {reason}", *_stored(subjects)]


def _stored(subjects: Sequence[Subject]) -> list[str]:
    found = [dict(one.figures.get("metrics", {})) for one in subjects]
    names = sorted(set().union(*found))
    rows: list[tuple[str, ...]] = [
        (name, *(with_interval(one[name]) if name in one else "–" for one in found)) for name in names
    ]
    tags = sorted({name for one in subjects for name in one.tags if name.startswith(_STORED)})
    rows += [(name, *(one.tags.get(name, "–") for one in subjects)) for name in tags]
    return table(subjects, "", rows)
