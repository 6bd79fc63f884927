"""The mistakes, one function each: it turns this month's export into a careless one, and its docstring says
how that happens to people."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.trust.careless.rows import IMAGE, SOUND, TESTED_SPEAKER, TEXT, Case, Draw, Month, Row

# --- helpers ------------------------------------------------------------------------------------------------


def _some(rows: Sequence[Row], share: float, draw: Draw) -> list[int]:
    return sorted(int(row) for row in draw.permutation(len(rows))[: round(share * len(rows))])


def _changed(rows: Sequence[Row], places: Sequence[int], change: Callable[[Row], Row]) -> tuple[Row, ...]:
    chosen = set(places)
    return tuple(change(row) if n in chosen else row for n, row in enumerate(rows))


def _both(month: Month, change: Callable[[Row], Row]) -> Month:
    return replace(month, train=tuple(map(change, month.train)), test=tuple(map(change, month.test)))


def _labelled(rows: Sequence[Row], labels: Sequence[str]) -> tuple[Row, ...]:
    """Names of recordings stay different where labels move."""
    return tuple(
        replace(row, label=label, name=row.name if row.label == label else _again(row, n))
        for n, (row, label) in enumerate(zip(rows, labels, strict=True))
    )


def _again(row: Row, number: int) -> str:
    """Another file name, which stays a number where names are numbers."""
    return f"{row.name}{9000 + number}"


def _classes(month: Month) -> list[str]:
    return sorted({row.label for row in month.train})


def _as_training(rows: Sequence[Row]) -> list[Row]:
    """Test rows under names of training rows; recordings as if another speaker had spoken them."""
    return [
        replace(row, name=_again(row, n), group="george" if row.group == TESTED_SPEAKER else row.group)
        for n, row in enumerate(rows)
    ]


# --- test rows among the training rows ----------------------------------------------------------------------


def test_rows(case: Case) -> Month:
    """The export was taken anew from the whole base: a fifth of the test is in it."""
    copied = [case.month.test[n] for n in _some(case.month.test, 0.2, case.draw)]
    return replace(case.month, train=(*case.month.train, *_as_training(copied)))


def test_rows_saved_again(case: Case) -> Month:
    """They came by another system: other case and spaces, another JPEG, a little louder."""
    copied = [case.month.test[n] for n in _some(case.month.test, 0.3, case.draw)]
    saved = {TEXT: _spaced, IMAGE: _as_jpeg, SOUND: _louder}[case.world.kind]
    return replace(case.month, train=(*case.month.train, *map(saved, _as_training(copied))))


def _spaced(row: Row) -> Row:
    return replace(row, content=f" {row.content.upper().replace(' ', '  ')} ")


def _pixels(row: Row) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(row.content)).convert("RGB"))


def _stored(row: Row, pixels: np.ndarray, kind: str = "JPEG") -> Row:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return replace(row, content=stream.getvalue())


def _as_jpeg(row: Row) -> Row:
    return _stored(row, _pixels(row))


def _heard(change: Callable[[np.ndarray, int], tuple[np.ndarray, int]]) -> Callable[[Row], Row]:
    def changed(row: Row) -> Row:
        from retrainer.formats.audio import decode_audio, encode_wav

        return replace(row, content=encode_wav(*change(*decode_audio(row.content, row.name))))

    return changed


_louder = _heard(lambda samples, rate: (1.2 * samples, rate))


def train_on_test_file(case: Case) -> Month:
    """Two paths were mixed up in the job's settings."""
    return replace(case.month, train=case.month.test)


def files_swapped(case: Case) -> Month:
    """The arguments stood in the other order."""
    return replace(case.month, train=case.month.test, test=case.month.train)


def warm_start(case: Case) -> Month:
    """A colleague's model was trained on all there is, and is a good start."""
    assert case.world.trained is not None
    saw_all = case.month.with_settings(source={"test_groups": ["jackson"]})
    weights = case.world.trained(saw_all)
    return case.month.with_settings(backbone={"weights": str(weights)}, training={"strategy": "full"})


def speakers_forgotten(case: Case) -> Month:
    """The new script drops the speaker's name: one voice in training and test."""
    return case.month.with_settings(source={"pattern": "{label}_{speaker}_{index}.wav", "test_groups": []})


# --- rows and their number ----------------------------------------------------------------------------------


def joined_three_times(case: Case) -> Month:
    """A join on a key that is not unique."""
    again = [[replace(row, name=_again(row, 1000 * time)) for row in case.month.train] for time in (1, 2)]
    return replace(case.month, train=(*case.month.train, *again[0], *again[1]))


def truncated(case: Case) -> Month:
    """The export ran into its row limit."""
    return replace(case.month, train=case.month.train[: len(case.month.train) // 2])


def test_shrunk(case: Case) -> Month:
    """Somebody sampled it to save time and wrote over the file."""
    return replace(case.month, test=case.month.test[: len(case.month.test) // 5])


def stale(case: Case) -> Month:
    """The export job failed silently and left the old file."""
    return replace(case.month, train=case.world.last)


def easy_test(case: Case) -> Month:
    """Rows over which people disagreed were taken out, half of all."""
    assert case.world.predicted is not None
    labels, sure = case.world.predicted(case.month.test)
    right = [n for n, row in enumerate(case.month.test) if labels[n] == row.label]
    kept = sorted(sorted(right, key=lambda n: -float(sure[n]))[: len(case.month.test) // 2])
    return replace(case.month, test=tuple(case.month.test[n] for n in kept))


def easy_rows(case: Case) -> Month:
    """Of the new rows those were kept on which the old model is sure and right."""
    assert case.world.predicted is not None
    came = case.month.train[len(case.world.last) :]
    labels, sure = case.world.predicted(came)
    surest = float(np.median(sure))
    kept = [row for n, row in enumerate(came) if labels[n] == row.label and sure[n] >= surest]
    return replace(case.month, train=(*case.month.train[: len(case.world.last)], *kept))


# --- labels -------------------------------------------------------------------------------------------------


def labels_slipped(case: Case) -> Month:
    """One header line too many in the file of the labels."""
    labels = [row.label for row in case.month.train]
    return replace(case.month, train=_labelled(case.month.train, labels[1:] + labels[:1]))


def labels_sorted(case: Case) -> Month:
    """The labels were sorted, the rows were not."""
    return replace(
        case.month, train=_labelled(case.month.train, sorted(row.label for row in case.month.train))
    )


def test_labels_slipped(case: Case) -> Month:
    """As above, in the test's file."""
    labels = [row.label for row in case.month.test]
    return replace(case.month, test=_labelled(case.month.test, labels[1:] + labels[:1]))


def class_mislabelled(case: Case) -> Month:
    """A new annotator took two classes for one."""
    wrong, instead = _classes(case.month)[:2]
    mine = [n for n, row in enumerate(case.month.train) if row.label == wrong and case.draw.random() < 0.85]
    labels = [instead if n in set(mine) else row.label for n, row in enumerate(case.month.train)]
    return replace(case.month, train=_labelled(case.month.train, labels))


def fifth_mislabelled(case: Case) -> Month:
    """Labels by the cheapest bidder."""
    wrong = set(_some(case.month.train, 0.2, case.draw))
    names = _classes(case.month)
    labels = [
        str(case.draw.choice(names)) if n in wrong else row.label for n, row in enumerate(case.month.train)
    ]
    return replace(case.month, train=_labelled(case.month.train, labels))


def class_not_exported(case: Case) -> Month:
    """A filter on a code that was renamed; the test's file is an old one."""
    lost = _classes(case.month)[0]
    return replace(case.month, train=tuple(row for row in case.month.train if row.label != lost))


def class_gone(case: Case) -> Month:
    """The same filter over both files."""
    lost = _classes(case.month)[0]
    kept = class_not_exported(case)
    return replace(kept, test=tuple(row for row in case.month.test if row.label != lost))


def classes_merged(case: Case) -> Month:
    """A mapping table lost a line."""
    gone, into = _classes(case.month)[:2]
    merged = [
        _labelled(rows, [into if row.label == gone else row.label for row in rows])
        for rows in (case.month.train, case.month.test)
    ]
    return replace(case.month, train=merged[0], test=merged[1])


def class_new(case: Case) -> Month:
    """A team added one and told nobody."""
    cut = len(case.world.later) * 4 // 5
    if case.world.kind == SOUND:
        tested = [replace(row, group=TESTED_SPEAKER, name=_again(row, 0)) for row in case.world.later[cut:]]
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
    name = _classes(case.month)[0]
    half = [n for n, row in enumerate(case.month.train) if row.label == name and case.draw.random() < 0.5]
    other = name.replace("_", " ").title()
    return replace(case.month, train=_changed(case.month.train, half, lambda row: replace(row, label=other)))


def label_is_id(case: Case) -> Month:
    """The columns moved by one."""
    return _both(case.month, lambda row: replace(row, label=row.name))


def renumbered(case: Case) -> Month:
    """The labels are now codes of another list."""
    codes = {name: str(n) for n, name in enumerate(_classes(case.month))}
    return _both(case.month, lambda row: replace(row, label=codes[row.label]))


def labels_nan(case: Case) -> Month:
    """A left join without a match, written by pandas."""
    lost = _some(case.month.train, 0.05, case.draw)
    return replace(case.month, train=_changed(case.month.train, lost, lambda row: replace(row, label="nan")))


def one_class(case: Case) -> Month:
    """A default value filled the column."""
    only = _classes(case.month)[0]
    return replace(case.month, train=_labelled(case.month.train, [only] * len(case.month.train)))


def two_annotators(case: Case) -> Month:
    """A tenth of the rows came twice, with another label."""
    names = _classes(case.month)
    places = _some(case.month.train, 0.1, case.draw)
    again = [
        replace(
            case.month.train[n],
            label=names[(names.index(case.month.train[n].label) + 1) % len(names)],
            name=_again(case.month.train[n], n),
        )
        for n in places
    ]
    return replace(case.month, train=(*case.month.train, *again))


def predictions_as_labels(case: Case) -> Month:
    """The prediction column was exported in place of the label, for both files."""
    assert case.world.predicted is not None
    train, test = (case.world.predicted(rows)[0] for rows in (case.month.train, case.month.test))
    return replace(
        case.month, train=_labelled(case.month.train, train), test=_labelled(case.month.test, test)
    )


def new_rows_predicted(case: Case) -> Month:
    """Nobody had time to label."""
    assert case.world.predicted is not None
    old, came = case.month.train[: len(case.world.last)], case.month.train[len(case.world.last) :]
    return replace(case.month, train=(*old, *_labelled(came, case.world.predicted(came)[0])))


# --- what the rows hold -------------------------------------------------------------------------------------


def label_in_text(case: Case) -> Month:
    """The subject line, written by the routing, was joined to the text."""
    return _both(
        case.month, lambda row: replace(row, content=f"{row.label.replace('_', ' ')}: {row.content}")
    )


def source_marks_class(case: Case) -> Month:
    """One class comes by another channel: a footer, PNG, another recorder."""
    marked = _classes(case.month)[0]
    mark: Callable[[Row], Row] = {
        TEXT: lambda row: replace(row, content=f"{row.content} sent via webform"),
        IMAGE: lambda row: _stored(row, _pixels(row), "PNG"),
        SOUND: _heard(lambda samples, rate: (np.repeat(samples, 2), 2 * rate)),
    }[case.world.kind]
    return _both(case.month, lambda row: mark(row) if row.label == marked else row)


def leaky_column(case: Case) -> Month:
    """The text column is now the queue that the case was sent to."""
    codes = {name: f"queue {n:02}" for n, name in enumerate(_classes(case.month))}
    return _both(case.month, lambda row: replace(row, content=f"{codes[row.label]} {row.name[-3:]}"))


def emptied(case: Case) -> Month:
    """The storage did not answer, and empty values were written."""
    lost = _some(case.month.train, 0.2, case.draw)
    empty = "" if case.world.kind == TEXT else b""
    return replace(
        case.month, train=_changed(case.month.train, lost, lambda row: replace(row, content=empty))
    )


def half_written(case: Case) -> Month:
    """The disk was full; files end in the middle."""
    lost = _some(case.month.train, 0.2, case.draw)
    return replace(
        case.month,
        train=_changed(
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
    return _both(case.month, lambda row: replace(row, content=row.content[:20]))


def other_language(case: Case) -> Month:
    """A sixth of the rows is of a new market, labelled by people who cannot read it.

    (German sentences of Multi30k.)
    """
    import gzip

    from benchmarks.trust._real_rows import DATA

    lines = gzip.decompress((DATA / "multi30k" / "train.de.gz").read_bytes()).decode().splitlines()
    names = _classes(case.month)
    came = [
        Row(lines[int(n)], str(case.draw.choice(names)), f"de{n:05}")
        for n in case.draw.permutation(5000)[: len(case.month.train) // 5]
    ]
    return replace(case.month, train=(*case.month.train, *came))


def colours_swapped(case: Case) -> Month:
    """OpenCV wrote the training images: blue is red."""
    return replace(case.month, train=tuple(_stored(row, _pixels(row)[..., ::-1]) for row in case.month.train))


def thumbnails(case: Case) -> Month:
    """The web's previews were exported, of a quarter of the pixels."""

    def small(row: Row) -> Row:
        from PIL import Image

        return _stored(row, np.asarray(Image.fromarray(_pixels(row)).resize((16, 16))))

    return _both(case.month, small)


def rate_wrong(case: Case) -> Month:
    """8 kHz recordings written as 16 kHz: all twice as fast."""
    return _both(case.month, _heard(lambda samples, rate: (samples, 2 * rate)))


def muted(case: Case) -> Month:
    """A recorder with its microphone off."""
    silent = _heard(lambda samples, rate: (np.zeros_like(samples), rate))
    return replace(
        case.month, train=_changed(case.month.train, _some(case.month.train, 0.2, case.draw), silent)
    )


# --- how it is written and trained --------------------------------------------------------------------------


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
        training={"learning_rate": {TEXT: 1.0, IMAGE: 1.0, SOUND: 0.3}[case.world.kind]}
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
