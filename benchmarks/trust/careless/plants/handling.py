"""How the files are written, and how the model is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.trust.careless.rows import IMAGE, SOUND, TEXT, Case, Month, Row


def semicolons(case: Case) -> Month:
    """Excel of another country saved it."""
    return replace(case.month, delimiter=";")


def column_renamed(case: Case) -> Month:
    """The CRM was updated."""
    return replace(case.month, header=("text", "intent"))


def backup_inside(case: Case) -> Month:
    """train/old/ holds a copy of what was there before the labels were gone through."""
    old = [replace(row, name=f"old{row.name}") for row in case.month.train[: len(case.month.train) // 3]]
    return replace(case.month, train=(*case.month.train, *old), folders={row.name: "old" for row in old})


def test_is_old(case: Case) -> Month:
    """The test is of 2023, the rows are of 2026."""

    def dated(rows: Sequence[Row], year: int) -> tuple[Row, ...]:
        return tuple(
            replace(r, further=(("day", f"{year}-{1 + n % 12:02}-{1 + n % 28:02}"),))
            for n, r in enumerate(rows)
        )

    dated_month = replace(case.month, train=dated(case.month.train, 2026), test=dated(case.month.test, 2023))
    return dated_month.with_settings(source={"time": "day"})


def rate_times_100(case: Case) -> Month:
    """A decimal point."""
    return case.month.with_settings(
        training={"learning_rate": {TEXT: 1.0, IMAGE: 0.03, SOUND: 0.3}[case.world.kind]}
    )


def no_epochs(case: Case) -> Month:
    """A default of the job's template."""
    return case.month.with_settings(training={"epochs": 0})


def one_epoch(case: Case) -> Month:
    """One epoch at a rate of 0.00001, left from a trial run."""
    return case.month.with_settings(training={"epochs": 1, "learning_rate": 1e-5})


def until_it_wins(case: Case) -> Month:
    """The same rows, trained again until the figure is better."""
    return replace(case.month, train=case.world.last, seeds=10)
