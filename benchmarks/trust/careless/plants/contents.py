"""What the rows hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.trust.careless.plants.changes import both, changed, classes, heard, pixels, some, stored
from benchmarks.trust.careless.rows import IMAGE, SOUND, TEXT, Case, Month, Row


def label_in_text(case: Case) -> Month:
    """The subject line, written by the routing, was joined to the text."""
    return both(case.month, lambda row: replace(row, content=f"{row.label.replace('_', ' ')}: {row.content}"))


def source_marks_class(case: Case) -> Month:
    """One class comes by another channel: a footer, PNG, another recorder."""
    marked = classes(case.month)[0]
    mark: Callable[[Row], Row] = {
        TEXT: lambda row: replace(row, content=f"{row.content} sent via webform"),
        IMAGE: lambda row: stored(row, pixels(row), "PNG"),
        SOUND: heard(lambda samples, rate: (np.repeat(samples, 2), 2 * rate)),
    }[case.world.kind]
    return both(case.month, lambda row: mark(row) if row.label == marked else row)


def leaky_column(case: Case) -> Month:
    """The text column is now the queue that the case was sent to."""
    codes = {name: f"queue {n:02}" for n, name in enumerate(classes(case.month))}
    return both(case.month, lambda row: replace(row, content=f"{codes[row.label]} {row.name[-3:]}"))


def emptied(case: Case) -> Month:
    """The storage did not answer, and empty values were written."""
    lost = some(case.month.train, 0.2, case.draw)
    empty = "" if case.world.kind == TEXT else b""
    return replace(case.month, train=changed(case.month.train, lost, lambda row: replace(row, content=empty)))


def half_written(case: Case) -> Month:
    """The disk was full; files end in the middle."""
    lost = some(case.month.train, 0.2, case.draw)
    return replace(
        case.month,
        train=changed(
            case.month.train, lost, lambda row: replace(row, content=row.content[: len(row.content) // 2])
        ),
    )


def mojibake(case: Case) -> Month:
    """UTF-8 read as Windows-1252: donâ€™t."""

    def spoilt(row: Row) -> Row:
        return replace(row, content=row.content.replace("'", "\u2019").encode().decode("cp1252", "replace"))

    return replace(case.month, train=tuple(map(spoilt, case.month.train)))


def other_encoding(case: Case) -> Month:
    """A file saved as Latin-1."""
    pound = replace(case.month.train[0], content=f"{case.month.train[0].content} \u00a320")
    return replace(case.month, train=(pound, *case.month.train[1:]), encoding="latin-1")


def html(case: Case) -> Month:
    """The training rows are exported from the web form's raw field."""
    return replace(
        case.month,
        train=tuple(
            replace(row, content=f'<div class="msg"><p>{row.content}</p>&nbsp;</div>')
            for row in case.month.train
        ),
    )


def cut_at_20(case: Case) -> Month:
    """A column VARCHAR(20) on the way."""
    return both(case.month, lambda row: replace(row, content=row.content[:20]))


def other_language(case: Case) -> Month:
    """A sixth of the rows is of a new market, labelled by people who cannot read it.

    (German sentences of Multi30k.)
    """
    import gzip

    from benchmarks.trust._real_rows import DATA

    lines = gzip.decompress((DATA / "multi30k" / "train.de.gz").read_bytes()).decode().splitlines()
    names = classes(case.month)
    came = [
        Row(lines[int(n)], str(case.draw.choice(names)), f"de{n:05}")
        for n in case.draw.permutation(5000)[: len(case.month.train) // 5]
    ]
    return replace(case.month, train=(*case.month.train, *came))


def colours_swapped(case: Case) -> Month:
    """OpenCV wrote the training images: blue is red."""
    return replace(case.month, train=tuple(stored(row, pixels(row)[..., ::-1]) for row in case.month.train))


def thumbnails(case: Case) -> Month:
    """The web's previews were exported, of a quarter of the pixels."""

    def small(row: Row) -> Row:
        from PIL import Image

        return stored(row, np.asarray(Image.fromarray(pixels(row)).resize((16, 16))))

    return both(case.month, small)


def rate_wrong(case: Case) -> Month:
    """8 kHz recordings written as 16 kHz: all twice as fast."""
    return both(case.month, heard(lambda samples, rate: (samples, 2 * rate)))


def muted(case: Case) -> Month:
    """A recorder with its microphone off."""
    silent = heard(lambda samples, rate: (np.zeros_like(samples), rate))
    return replace(
        case.month, train=changed(case.month.train, some(case.month.train, 0.2, case.draw), silent)
    )
