"""Preprocessing: the raw dataset checked, without duplicates, split. Every row that goes in is accounted for.

A row comes out in train, validation or test, or stands in `dropped.parquet` with its origin and one reason:
    class not selected          (by ingest) none of `source.classes`
    empty text (or another column of text), no image, not an image, broken image, image too large,
    no grey or RGB image, no audio, missing label (or another input or target), and what the task finds wrong
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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from retrainer.data import report
from retrainer.data.classes import check_classes, check_division, counts_of, shares
from retrainer.data.exact_duplicates import drop_exact_duplicates, drop_held_out
from retrainer.data.label_noise import write_suspects
from retrainer.data.near import near_duplicates
from retrainer.data.odd_labels import check_unique_labels
from retrainer.data.perceptual_hashes import perceptual_hashes
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
from retrainer.data.tables import dropped_rows, take_rows
from retrainer.data.task_columns import TaskColumns
from retrainer.data.training_rows import check_training_rows
from retrainer.data.unseen_classes import check_unseen_classes
from retrainer.data.usable_rows import UsableRows, column_of, usable_rows
from retrainer.errors import DataError
from retrainer.findings import Findings
from retrainer.formats.dataset import (
    LABELS,
    SOURCE_NAMES,
    About,
    Dataset,
    row_digest,
    write_dataset,
)
from retrainer.formats.files import whole_directory, write_text
from retrainer.formats.names import SPLITS
from retrainer.formats.profile import Profile, write_profile
from retrainer.formats.row_keys import RowKeys, short, write_components, write_left_out, write_row_keys
from retrainer.settings import Checks, Split, Task

_OWN_SETS = {GIVEN_VALIDATION: VALIDATION, GIVEN_TEST: TEST}
# One component with more than this share of the rows makes the shares of the splits a matter of luck.
_LARGE_COMPONENT = 0.2


def preprocess(
    raw: Path, out: Path, split: Split, checks: Checks, task: Task, findings_out: Path | None = None
) -> dict[str, Any]:
    """Checks and splits a raw dataset and returns the manifest of the new one.

    Rows are ordered by hash, so neither the order of the source nor of its files matters. The manifest's
    `checks` name what is allowed but hardly meant; `findings_out` becomes a directory with the report on
    them, report.html. Raises UserError naming the row or the setting.
    """
    findings = Findings(checks)
    with findings.stopping():
        usable = usable_rows(Dataset(raw), task, split, findings)
        table, rows, columns = usable.table, usable.rows, usable.columns
        if columns.classes == LABELS:
            names = usable.source.manifest.get(SOURCE_NAMES, {})
            check_unique_labels(rows, names.get(LABELS, "label"), findings)
        hashes = perceptual_hashes(table, columns)
        near = near_duplicates(table, columns, rows.keys, findings, hashes)
        _link_and_drop(table, rows, near, columns, findings)
        divided = place(rows, split)
        placed = choose(rows, divided, split)
        dropped = pa.concat_tables([usable.left_out, dropped_rows(table, rows.reasons)])
        lost = len(table) + len(usable.left_out) - sum(map(len, placed.values())) - len(dropped)
        assert lost == 0, "a row was lost"
        _check_splits(rows, placed, split, dropped, findings)
        classes = counts_of(rows, divided)
        if columns.classes is not None:
            several = task.multi_label or columns.classes != LABELS
            check_classes(counts_of(rows, placed), several, _lost(dropped), findings)
            check_unseen_classes(rows, divided, placed, findings)
            check_division(classes, split.by == "hash" and not rows.held_out(), findings)
        suspects = check_training_rows(table, columns, rows, placed[TRAIN], findings)
    tables = {name: take_rows(table, placed[name]) for name in SPLITS}
    about = _about(usable, hashes, placed, classes, findings)
    manifest = write_dataset(out, tables, replace(about, dropped=dropped))
    if findings_out is not None:
        found = report.Found(near, rows.keys, usable.words, usable.sizes(), suspects)
        with whole_directory(findings_out) as aside:
            write_text(aside / report.FILE, report.render(manifest, table, columns, found))
            if suspects:
                write_suspects(aside, suspects, rows.origins)
    return manifest


def _about(
    usable: UsableRows,
    hashes: np.ndarray,
    placed: dict[str, list[int]],
    classes: dict[str, dict[str, int]],
    findings: Findings,
) -> About:
    """What the dataset says beside its rows; with them, the keys and components by which others find them."""
    rows, manifest = usable.rows, usable.source.manifest
    compared = SPLITS[:2] if GIVEN_TEST in rows.given else SPLITS
    profile = _profile(usable.table, rows, [row for name in compared for row in placed[name]])
    extra = {
        "raw_content_sha256": usable.source.content_sha256,
        "sources": manifest.get("sources", []),
        "schema": usable.schema,
        "own_sets": [split for given, split in _OWN_SETS.items() if given in rows.given],
        "checks": findings.plain(),
        "class_shares": shares(classes),
        "profile": {"splits": compared, "labels": profile.counts},
        **{name: manifest[name] for name in [SOURCE_NAMES] if name in manifest},
    }

    keys = _row_keys(usable, hashes)

    def beside(aside: Path) -> None:
        write_row_keys(aside, {name: keys.take(placed[name]) for name in SPLITS})
        write_components(aside, {name: [rows.components[row] for row in placed[name]] for name in SPLITS})
        relatives = _left_out_relatives(rows, placed)
        write_left_out(aside, keys.take(relatives), [rows.components[row] for row in relatives])
        write_profile(aside, profile)

    types = manifest.get("types", {})
    return About(None, types, usable.columns.classes, extra, beside)


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


def _row_keys(usable: UsableRows, hashes: np.ndarray) -> RowKeys:
    """Of all usable rows: by all inputs together, by each alone, and by what they show or sound like."""
    keys = {name: short(content_keys(usable.table, [name])) for name in usable.columns.inputs}
    return RowKeys(short(usable.rows.keys), keys, hashes)


def _profile(table: pa.Table, rows: Rows, compared: list[int]) -> Profile:
    """Of all rows but those of the user's own test set, beside which no new ones arrive."""
    keys, linked = ([one[row] for row in compared] for one in (rows.keys, rows.components))
    return profile_of(table, compared, short(keys), short(linked))


def _link_and_drop(
    table: pa.Table, rows: Rows, near: list[tuple[bytes, bytes]], columns: TaskColumns, findings: Findings
) -> None:
    """Links the rows to components, then leaves out what is tested already or said twice."""
    groups = column_of(table, "group")
    times = rows.times if "time" in table.column_names else None
    rows.components = components(rows.keys, groups, near, times, column_of(table, "id"))
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
        setting = "source.validation" if GIVEN_VALIDATION in rows.given else "split.validation"
        findings.add("no_validation", 1, f"empty validation: no epoch can be chosen by it ({setting})")
    kept = [row for members in placed.values() for row in members]
    largest = Counter(rows.components[row] for row in kept).most_common(1)[0][1]
    if largest > max(1, _LARGE_COMPONENT * len(kept)):
        note = f"of {len(kept)} rows are linked by groups or (nearly) equal content and share one split"
        findings.add("large_component", largest, note)
