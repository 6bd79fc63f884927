"""Labels and classes."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.trust.careless.plants.changes import both, changed, classes, labelled, renamed, some
from benchmarks.trust.careless.rows import SOUND, TESTED_SPEAKER, Case, Month


def labels_slipped(case: Case) -> Month:
    """One header line too many in the file of the labels."""
    labels = [row.label for row in case.month.train]
    return replace(case.month, train=labelled(case.month.train, labels[1:] + labels[:1]))


def labels_sorted(case: Case) -> Month:
    """The labels were sorted, the rows were not."""
    return replace(
        case.month, train=labelled(case.month.train, sorted(row.label for row in case.month.train))
    )


def test_labels_slipped(case: Case) -> Month:
    """As above, in the test's file."""
    labels = [row.label for row in case.month.test]
    return replace(case.month, test=labelled(case.month.test, labels[1:] + labels[:1]))


def class_mislabelled(case: Case) -> Month:
    """A new annotator took two classes for one."""
    wrong, instead = classes(case.month)[:2]
    mine = [n for n, row in enumerate(case.month.train) if row.label == wrong and case.draw.random() < 0.85]
    labels = [instead if n in set(mine) else row.label for n, row in enumerate(case.month.train)]
    return replace(case.month, train=labelled(case.month.train, labels))


def fifth_mislabelled(case: Case) -> Month:
    """Labels by the cheapest bidder."""
    wrong = set(some(case.month.train, 0.2, case.draw))
    names = classes(case.month)
    labels = [
        str(case.draw.choice(names)) if n in wrong else row.label for n, row in enumerate(case.month.train)
    ]
    return replace(case.month, train=labelled(case.month.train, labels))


def class_not_exported(case: Case) -> Month:
    """A filter on a code that was renamed; the test's file is an old one."""
    lost = classes(case.month)[0]
    return replace(case.month, train=tuple(row for row in case.month.train if row.label != lost))


def class_gone(case: Case) -> Month:
    """The same filter over both files."""
    lost = classes(case.month)[0]
    kept = class_not_exported(case)
    return replace(kept, test=tuple(row for row in case.month.test if row.label != lost))


def classes_merged(case: Case) -> Month:
    """A mapping table lost a line."""
    gone, into = classes(case.month)[:2]
    merged = [
        labelled(rows, [into if row.label == gone else row.label for row in rows])
        for rows in (case.month.train, case.month.test)
    ]
    return replace(case.month, train=merged[0], test=merged[1])


def class_new(case: Case) -> Month:
    """A team added one and told nobody."""
    cut = len(case.world.later) * 4 // 5
    if case.world.kind == SOUND:
        tested = [replace(row, group=TESTED_SPEAKER, name=renamed(row, 0)) for row in case.world.later[cut:]]
        return replace(
            case.month, train=(*case.month.train, *case.world.later[:cut]), test=(*case.month.test, *tested)
        )
    return replace(
        case.month,
        train=(*case.month.train, *case.world.later[:cut]),
        test=(*case.month.test, *case.world.later[cut:]),
    )


def spelled_twice(case: Case) -> Month:
    """A second system writes capitals."""
    name = classes(case.month)[0]
    half = [n for n, row in enumerate(case.month.train) if row.label == name and case.draw.random() < 0.5]
    other = name.replace("_", " ").title()
    return replace(case.month, train=changed(case.month.train, half, lambda row: replace(row, label=other)))


def label_is_id(case: Case) -> Month:
    """The columns moved by one."""
    return both(case.month, lambda row: replace(row, label=row.name))


def renumbered(case: Case) -> Month:
    """The labels are now codes of another list."""
    codes = {name: str(n) for n, name in enumerate(classes(case.month))}
    return both(case.month, lambda row: replace(row, label=codes[row.label]))


def labels_nan(case: Case) -> Month:
    """A left join without a match, written by pandas."""
    lost = some(case.month.train, 0.05, case.draw)
    return replace(case.month, train=changed(case.month.train, lost, lambda row: replace(row, label="nan")))


def one_class(case: Case) -> Month:
    """A default value filled the column."""
    only = classes(case.month)[0]
    return replace(case.month, train=labelled(case.month.train, [only] * len(case.month.train)))


def two_annotators(case: Case) -> Month:
    """A tenth of the rows came twice, with another label."""
    names = classes(case.month)
    places = some(case.month.train, 0.1, case.draw)
    again = [
        replace(
            case.month.train[n],
            label=names[(names.index(case.month.train[n].label) + 1) % len(names)],
            name=renamed(case.month.train[n], n),
        )
        for n in places
    ]
    return replace(case.month, train=(*case.month.train, *again))


def predictions_as_labels(case: Case) -> Month:
    """The prediction column was exported in place of the label, for both files."""
    assert case.world.predicted is not None
    train, test = (case.world.predicted(rows)[0] for rows in (case.month.train, case.month.test))
    return replace(case.month, train=labelled(case.month.train, train), test=labelled(case.month.test, test))


def new_rows_predicted(case: Case) -> Month:
    """Nobody had time to label."""
    assert case.world.predicted is not None
    old, came = case.month.train[: len(case.world.last)], case.month.train[len(case.world.last) :]
    return replace(case.month, train=(*old, *labelled(came, case.world.predicted(came)[0])))
