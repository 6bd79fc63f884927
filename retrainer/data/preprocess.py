"""Preprocessing: the raw dataset checked, without duplicates, split. Every row that goes in is accounted for.

A row comes out in train, validation or test, or stands in `dropped.parquet` with its origin and one reason:
    class not selected          (by ingest) none of `source.classes`
    empty text (or another column of text), no image, not an image, broken image, image too large,
    no grey or RGB image, no audio, missing label (or another input or target)
    also in the test set        the same content or group as a row of the user's own test set
    near-duplicate of a test row    of the user's own, or linked to one
    also in the validation set, near-duplicate of a validation row    likewise, of a row to train on
    the same file in another class folder    of a multi-label task: the row that stays has the labels of both
    duplicate                   the same content and targets as another row, which stays
    conflicting labels          the same content as another row with other labels; none of them stays
                                (conflicting targets, where the task's are of another kind)
    over split.train_per_class, over split.validation_per_class, over split.limit
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from retrainer.data import report
from retrainer.data.boxes import fit_boxes
from retrainer.data.checks import (
    check_images,
    check_one_label,
    check_reasons,
    check_texts,
    clean_labels,
    unusable,
)
from retrainer.data.class_folders import join_labels
from retrainer.data.classes import check_classes, check_division, counts_of, shares
from retrainer.data.exact_duplicates import drop_exact_duplicates, drop_held_out
from retrainer.data.id_spelling import check_spelling
from retrainer.data.images import Look, look_at
from retrainer.data.label_noise import write_suspects
from retrainer.data.near import near_duplicates
from retrainer.data.profile import profile_of
from retrainer.data.quotas import choose
from retrainer.data.splits import (
    GIVEN_TEST,
    GIVEN_VALIDATION,
    TEST,
    TRAIN,
    VALIDATION,
    Rows,
    components,
    content_keys,
    place,
)
from retrainer.data.tables import all_rows, dropped_by_ingest, dropped_rows, schema_of, take_rows
from retrainer.data.task_columns import TaskColumns, task_columns
from retrainer.data.times import instant, needed_instants
from retrainer.data.training_rows import check_training_rows
from retrainer.errors import DataError, SettingError
from retrainer.findings import Findings
from retrainer.formats.columns import TYPES
from retrainer.formats.dataset import (
    LABELS,
    LABELS_ADD_UP,
    SPLITS,
    About,
    Dataset,
    names_in,
    row_digest,
    write_dataset,
)
from retrainer.formats.files import whole_directory, write_text
from retrainer.formats.profile import Profile, write_profile
from retrainer.formats.row_keys import RowKeys, short, write_components, write_left_out, write_row_keys
from retrainer.settings import Checks, Split, Task

# Columns that are everyone's, whatever the task.
_EVERYONES = ("group", "time", "id", "metadata", "origin")
_OWN_SETS = {GIVEN_VALIDATION: VALIDATION, GIVEN_TEST: TEST}
# One component with more than this share of the rows makes the shares of the splits a matter of luck.
_LARGE_COMPONENT = 0.2


@dataclass
class _Sound:
    """The rows of `source` that the task can use, and what was seen of them.

    `looks` has one entry a row for every column of images, `words` (int64 [N]) counts those of the inputs.
    `left_out` are the other rows, as `origin` and `reason`; `schema` is that of all.
    """

    source: Dataset
    schema: dict[str, dict[str, Any]]
    table: pa.Table
    columns: TaskColumns
    rows: Rows
    looks: dict[str, list[Look]]
    words: np.ndarray
    left_out: pa.Table

    def sizes(self) -> list[tuple[int, int]]:
        return [look.size for of_column in self.looks.values() for look in of_column]


def preprocess(
    raw: Path, out: Path, split: Split, checks: Checks, task: Task, findings_out: Path | None = None
) -> dict[str, Any]:
    """Checks and splits a raw dataset and returns the manifest of the new one.

    Rows are ordered by hash, so neither the order of the source nor of its files matters. The manifest's
    `checks` name what is allowed but hardly meant; `findings_out` becomes a directory with the report on
    them, report.html. Raises UserError naming the row or the setting.
    """
    findings = Findings(checks)
    sound = _sound_rows(Dataset(raw), task, split, findings)
    table, rows, columns = sound.table, sound.rows, sound.columns
    near = near_duplicates(table, columns, rows.keys, findings)
    _link_and_drop(table, rows, near, columns, findings)
    divided = place(rows, split)
    placed = choose(rows, divided, split)
    dropped = pa.concat_tables([sound.left_out, dropped_rows(table, rows.reasons)])
    lost = len(table) + len(sound.left_out) - sum(map(len, placed.values())) - len(dropped)
    assert lost == 0, "a row was lost"
    _check_splits(rows, placed, split, dropped, findings)
    classes = counts_of(rows, divided)
    if columns.classes is not None:
        several = task.multi_label or columns.classes != LABELS
        check_classes(counts_of(rows, placed), several, _lost(dropped), findings)
        check_division(classes, split.by == "hash" and not rows.held_out(), findings)
    suspects = check_training_rows(table, columns, rows, placed[TRAIN], findings)
    tables = {name: take_rows(table, placed[name]) for name in SPLITS}
    about = _about(sound, placed, classes, findings)
    manifest = write_dataset(out, tables, replace(about, dropped=dropped))
    if findings_out is not None:
        found = report.Found(near, rows.keys, sound.words, sound.sizes(), suspects)
        with whole_directory(findings_out) as aside:
            write_text(aside / report.FILE, report.render(manifest, table, columns, found))
            if suspects:
                write_suspects(aside, suspects, rows.origins)
    return manifest


def _sound_rows(source: Dataset, task: Task, split: Split, findings: Findings) -> _Sound:
    """Looks at every row, and leaves out those that the task cannot use."""
    table, given = all_rows(source)
    schema = schema_of(table, source.manifest.get("types", {}))
    columns = task_columns(task, table.column_names)
    table = _with_clean_labels(table, columns, task.multi_label)
    looks = {name: look_at(table[name]) for name in columns.inputs_of("image")}
    reasons = unusable(table, columns, task.multi_label, looks)
    check_reasons(reasons, columns, table["origin"].to_pylist(), findings)
    if task.multi_label and LABELS in columns.targets and source.manifest.get(LABELS_ADD_UP):
        table = join_labels(table, columns, given, reasons, findings)
    left_out = pa.concat_tables([dropped_by_ingest(source), dropped_rows(table, reasons)])
    kept = [row for row, reason in enumerate(reasons) if reason is None]
    looks = {name: [of_column[row] for row in kept] for name, of_column in looks.items()}
    table = take_rows(table, kept)
    for of_column in list(looks.values())[:1]:
        table = fit_boxes(table, columns, of_column, findings)
    rows = _rows_of(table, columns, [given[row] for row in kept], split)
    words = check_texts(table, columns, task, findings)
    for of_column in looks.values():
        check_images(of_column, rows.origins, findings)
    check_spelling(rows, _column(table, "id"), _column(table, "group"), findings)
    return _Sound(source, schema, table, columns, rows, looks, words, left_out)


def _about(
    sound: _Sound, placed: dict[str, list[int]], classes: dict[str, dict[str, int]], findings: Findings
) -> About:
    """What the dataset says beside its rows; with them, the keys and components by which others find them."""
    rows, manifest = sound.rows, sound.source.manifest
    compared = SPLITS[:2] if GIVEN_TEST in rows.given else SPLITS
    profile = _profile(sound.table, rows, [row for name in compared for row in placed[name]])
    extra = {
        "raw_content_sha256": sound.source.content_sha256,
        "sources": manifest.get("sources", []),
        "schema": sound.schema,
        "own_sets": [split for given, split in _OWN_SETS.items() if given in rows.given],
        "checks": findings.plain(),
        "class_shares": shares(classes),
        "profile": {"splits": compared, "labels": profile.counts},
    }

    keys = _row_keys(sound)

    def beside(aside: Path) -> None:
        write_row_keys(aside, {name: keys.take(placed[name]) for name in SPLITS})
        write_components(aside, {name: [rows.components[row] for row in placed[name]] for name in SPLITS})
        relatives = _left_out_relatives(rows, placed)
        write_left_out(aside, keys.take(relatives), [rows.components[row] for row in relatives])
        write_profile(aside, profile)

    types = manifest.get("types", {})
    return About(None, types, sound.columns.classes, extra, beside)


def _left_out_relatives(rows: Rows, placed: dict[str, list[int]]) -> list[int]:
    """Rows of a test row's component that are in no split, by their keys: a model may have learned from them
    when they were."""
    tested = {rows.components[row] for row in placed[TEST]}
    known = {rows.keys[row] for members in placed.values() for row in members}
    found: dict[bytes, int] = {}
    for row, (key, component) in enumerate(zip(rows.keys, rows.components, strict=True)):
        if component in tested and key not in known:
            found.setdefault(key, row)
    return [found[key] for key in sorted(found)]


def _row_keys(sound: _Sound) -> RowKeys:
    """Of all sound rows: by all inputs together, by each alone, and by the picture of the first image."""
    table, inputs = sound.table, sound.columns.inputs
    keys = {name: short(content_keys(table, [name])) for name in inputs}
    images = sound.columns.inputs_of("image")
    if not images:
        return RowKeys(short(sound.rows.keys), keys)
    from retrainer.data.pictures import picture_hashes

    return RowKeys(short(sound.rows.keys), keys, picture_hashes(table[images[0]]))


def _profile(table: pa.Table, rows: Rows, compared: list[int]) -> Profile:
    """Of all rows but those of the user's own test set, beside which no new ones arrive."""
    keys, linked = ([one[row] for row in compared] for one in (rows.keys, rows.components))
    return profile_of(table, compared, short(keys), short(linked))


def _with_clean_labels(table: pa.Table, columns: TaskColumns, multi_label: bool) -> pa.Table:
    """What the task reads and what is everyone's, labels without white space around them."""
    needed = {*columns.inputs, *columns.targets, *_EVERYONES}
    table = table.select([name for name in table.column_names if name in needed])
    if LABELS not in columns.targets:
        return table
    labels = clean_labels(table[LABELS].to_pylist())
    if not multi_label:
        check_one_label(labels, table["origin"].to_pylist())
    return table.set_column(table.column_names.index(LABELS), LABELS, pa.array(labels, TYPES["strings"]))


def _rows_of(table: pa.Table, columns: TaskColumns, given: list[str], split: Split) -> Rows:
    """The sound rows, not yet linked. Raises UserError where `split.by: time` meets a row without a time."""
    keys, origins = content_keys(table, columns.inputs), table["origin"].to_pylist()
    times: list[int | None] = [instant(text) for text in _column(table, "time")]
    if split.by == "time":
        if "time" not in table.column_names:
            raise SettingError(
                "split.by: time, and the rows have none; set source.time to the column of times"
            )
        own = [row for row, name in enumerate(given) if name not in (GIVEN_TEST, GIVEN_VALIDATION)]
        needed_instants([_column(table, "time")[row] for row in own], [origins[row] for row in own])
    named = table[columns.classes].to_pylist() if columns.classes else [None] * len(table)
    classes = [tuple(dict.fromkeys(names_in(row))) for row in named]
    targets = content_keys(table, columns.targets, exact=True)
    return Rows(keys, keys, classes, targets, times, origins, given, [None] * len(table))


def _column(table: pa.Table, name: str) -> list[str | None]:
    """The column's values; as many absent ones where there is no such column."""
    return list(table[name].to_pylist()) if name in table.column_names else [None] * len(table)


def _link_and_drop(
    table: pa.Table, rows: Rows, near: list[tuple[bytes, bytes]], columns: TaskColumns, findings: Findings
) -> None:
    """Links the rows to components, then leaves out what is tested already or said twice."""
    groups = _column(table, "group")
    times = rows.times if "time" in table.column_names else None
    rows.components = components(rows.keys, groups, near, times, _column(table, "id"))
    drop_held_out(rows, components(rows.keys, groups), findings)

    def digest(row: int) -> bytes:
        return row_digest(table.slice(row, 1).to_pylist()[0])

    drop_exact_duplicates(rows, digest, columns, findings)


def _lost(dropped: pa.Table) -> str:
    reasons = Counter(dropped["reason"].to_pylist()).most_common()
    return "; dropped: " + ", ".join(f"{count} {reason}" for reason, count in reasons) if reasons else ""


def _check_splits(
    rows: Rows, placed: dict[str, list[int]], split: Split, dropped: pa.Table, findings: Findings
) -> None:
    total, lost = len(rows.keys), _lost(dropped)
    if not placed[TEST]:
        cure = "set split.test_from to an earlier day" if split.test_from else "raise split.test"
        raise DataError(f"no row of {total} is left to test on{lost}; {cure} or give source.test_path")
    if not placed[TRAIN]:
        cure = "lower split.test or split.validation"
        if rows.held_out():
            cure = "give training rows that are not those of your own test or validation set"
        raise DataError(f"no row of {total} is left to train on{lost}; {cure}")
    if not placed[VALIDATION]:
        findings.add("no_validation", 1, "empty validation: no epoch can be chosen by it (split.validation)")
    kept = [row for members in placed.values() for row in members]
    largest = Counter(rows.components[row] for row in kept).most_common(1)[0][1]
    if largest > max(1, _LARGE_COMPONENT * len(kept)):
        note = f"of {len(kept)} rows are linked by groups or (nearly) equal content and share one split"
        findings.add("large_component", largest, note)
