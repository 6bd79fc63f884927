"""Ordinary months, in which nothing may be stopped, held or named: more rows, as real exports bring them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.trust.careless.rows import IMAGE, SOUND, TEXT, Case, Month, Row


def more_rows(case: Case) -> Month:
    return case.month


def other_seed(case: Case) -> Month:
    return case.month.with_settings(training={"seed": int(case.draw.integers(1, 1000))})


def shares_moved(case: Case) -> Month:
    """Of each class 75 to 100% came."""
    kept = {name: case.draw.uniform(0.75, 1) for name in sorted({row.label for row in case.month.train})}
    return replace(
        case.month, train=tuple(row for row in case.month.train if case.draw.random() < kept[row.label])
    )


def exported_anew(case: Case) -> Month:
    """Another order of rows; of tables another order of columns, too, and other file names."""
    order = case.draw.permutation(len(case.month.train))
    rows = tuple(case.month.train[int(n)] for n in order)
    if case.world.kind != SOUND:
        rows = tuple(replace(row, name=f"export{n:05}") for n, row in enumerate(rows))
    return replace(case.month, train=rows)


def further_columns(case: Case) -> Month:
    """Who answered, how long it took, and by which channel it came."""

    def more(row: Row) -> Row:
        agent, minutes = f"agent {case.draw.integers(9)}", f"{case.draw.exponential(20):.0f}"
        channel = str(case.draw.choice(["app", "web", "mail"]))
        return replace(row, further=(("agent", agent), ("minutes", minutes), ("channel", channel)))

    kept = ["agent", "minutes", "channel"]
    train, test = (tuple(map(more, rows)) for rows in (case.month.train, case.month.test))
    return replace(case.month, train=train, test=test).with_settings(source={"metadata": kept})


def label_noise(case: Case) -> Month:
    """One label in a hundred is wrong."""
    names = sorted({row.label for row in case.month.train})

    def perhaps(n: int, row: Row) -> Row:
        if case.draw.random() >= 0.01:
            return row
        return replace(row, label=str(case.draw.choice(names)), name=f"{row.name}{9000 + n}")

    return replace(case.month, train=tuple(perhaps(n, row) for n, row in enumerate(case.month.train)))


def old_rows_gone(case: Case) -> Month:
    """A tenth of last month's rows is older than the policy allows to keep."""
    gone = set(case.draw.permutation(len(case.world.last))[: len(case.world.last) // 10].tolist())
    return replace(case.month, train=tuple(row for n, row in enumerate(case.month.train) if n not in gone))


def test_renewed(case: Case) -> Month:
    """A tenth of the test rows is no longer in use."""
    kept = np.sort(case.draw.permutation(len(case.month.test))[: len(case.month.test) * 9 // 10])
    return replace(case.month, test=tuple(case.month.test[int(n)] for n in kept))


CLEAN: dict[str, Callable[[Case], Month]] = {
    "more rows": more_rows,
    "more rows, another training seed": other_seed,
    "class shares moved": shares_moved,
    "exported anew, in another order": exported_anew,
    "further columns": further_columns,
    "one label in a hundred wrong": label_noise,
    "a tenth of the old rows gone": old_rows_gone,
    "a tenth of the test rows gone": test_renewed,
}
# Draws of each: a month of texts is trained in the shortest time, one of sounds in the longest.
SEEDS = {TEXT: 3, IMAGE: 2, SOUND: 1}

# What checks are right to find, and how often at most: two pictures that may come are the same photographs as
# two of the test (a frog and a car, looked at).
RIGHT = {IMAGE: {"near_duplicates": 2, "near_test_overlap": 2}}


def clean_months(kind: str) -> list[tuple[str, int, Callable[[Case], Month]]]:
    """Name, seed and change of each. Only tables have further columns."""
    return [
        (f"{name}, {seed}", 1000 + seed * len(CLEAN) + number, change)
        for seed in range(SEEDS[kind])
        for number, (name, change) in enumerate(CLEAN.items())
        if kind == TEXT or change is not further_columns
    ]
