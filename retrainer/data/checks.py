"""Which rows a task can use, for each other row the reason why not, and what is odd about the usable ones."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrainer.data.images import Look, of_each_file
from retrainer.data.task_columns import TaskColumns
from retrainer.data.texts import longest_read, word_counts, wrongly_encoded
from retrainer.errors import DataError
from retrainer.findings import MOST_EXAMPLES, Findings, share_of
from retrainer.formats.audio import fault_of, is_silent
from retrainer.formats.dataset import LABELS
from retrainer.settings import Task

# Reasons of the check `broken`; every other reason of `unusable` is of the check `empty`.
_BROKEN = {
    "image": {"not an image", "broken image", "image too large", "no grey or RGB image"},
    "audio": {"broken audio", "audio cut short", "audio without samples"},
}
_SAID_OF_BROKEN = {
    "image": "images that cannot be decoded, or are too large; left out",
    "audio": "recordings that cannot be decoded, or are cut short; left out",
}

Labels = list[list[str] | None]


def clean_labels(labels: Labels) -> Labels:
    """Labels without white space around them, in composed Unicode, each once and sorted."""
    return [None if row is None else sorted({clean_label(label) for label in row} - {""}) for row in labels]


def clean_label(label: str) -> str:
    """Without white space around it, in composed Unicode."""
    return unicodedata.normalize("NFC", label).strip()


def check_one_label(labels: Labels, origins: Sequence[str]) -> None:
    """Raises UserError for the first row of several labels in a single-label task."""
    for row, origin in zip(labels, origins, strict=True):
        if row is not None and len(row) > 1:
            named = ", ".join(f"'{label}'" for label in row[:3])
            raise DataError(
                f"{origin} has {len(row)} labels ({named}); set task.multi_label: true to allow several"
            )


def unusable(
    table: pa.Table, columns: TaskColumns, multi_label: bool, looks: Mapping[str, Sequence[Look]]
) -> list[str | None]:
    """Per row the reason why the task cannot use it: an input or a target is missing. None for a sound row.

    `looks` has one entry per row for every column of images. A row of a multi-label task may have no label
    ([]), and an image no box, but must say so: an absent list is missing.
    """
    reasons: list[str | None] = [None] * len(table)
    for name in (*columns.inputs, *columns.targets):
        if name in looks:
            found = [look.reason for look in looks[name]]
        else:
            may_be_empty = multi_label if name == LABELS else name in columns.targets
            found = _absent(table[name], name, columns.types[name], may_be_empty)
        for row, reason in enumerate(found):
            reasons[row] = reasons[row] or reason
    return reasons


def _absent(column: pa.ChunkedArray, name: str, word: str, may_be_empty: bool) -> list[str | None]:
    """Per row why its value cannot be used, in words; None where it can.

    `may_be_empty`: whether a list without an item says something, as a target does.
    """
    what = name.replace("_", " ")
    if word == "audio":
        return of_each_file(column, lambda encoded: fault_of(bytes(encoded)), f"no {what}")
    if word == "image":
        sizes = pc.fill_null(pc.binary_length(pc.struct_field(column, 0)), 0).to_pylist()
        return [None if size else f"no {what}" for size in sizes]
    if word == "string":
        return [None if text and not text.isspace() else f"empty {what}" for text in column.to_pylist()]
    missing = "missing label" if name == LABELS else f"missing {what}"
    if word == "number":
        return [missing if value is None else None for value in column.to_pylist()]
    return [missing if row is None or not (row or may_be_empty) else None for row in column.to_pylist()]


def check_reasons(
    reasons: Sequence[str | None], columns: TaskColumns, origins: Sequence[str], findings: Findings
) -> None:
    """The checks `empty` and `broken`: rows that are left out whatever the level says."""
    broken = {row for row, reason in enumerate(reasons) if reason in set().union(*_BROKEN.values())}
    empty = [row for row, reason in enumerate(reasons) if reason and row not in broken]

    def note(name: str, rows: Sequence[int], what: str) -> None:
        if findings.looks(name):
            named = (f"{origins[row]}: {reasons[row]}" for row in rows)
            findings.add(name, len(rows), what, named, share=share_of(len(rows), len(reasons)))

    target = "" if not columns.targets else "a label or " if columns.targets == (LABELS,) else "a target or "
    note("empty", empty, f"rows without {target}what the task reads; left out")
    for word, said in _SAID_OF_BROKEN.items():
        if columns.inputs_of(word):
            note("broken", [row for row in sorted(broken) if reasons[row] in _BROKEN[word]], said)


def check_texts(table: pa.Table, columns: TaskColumns, task: Task, findings: Findings) -> np.ndarray:
    """The checks `encoding` and `too_long`, on sound rows. Returns the words per row's inputs, int64 [N]."""
    names = columns.inputs_of("string")
    if columns.texts() and findings.looks("encoding"):
        _check_encoding(table, columns.texts(), findings)
    words, most = word_counts(table, names), longest_read(task)
    if names and most is not None and findings.looks("too_long"):
        cut = np.flatnonzero(words > most)
        note = f"or more texts of over {most} words, cut at task.max_length tokens"
        examples = (f"{table['origin'][row]}: {words[row]} words" for row in cut)
        cure, share = "shorten them, raise task.max_length", share_of(len(cut), len(words))
        findings.add("too_long", len(cut), note, examples, cure, share)
    return words


def _check_encoding(table: pa.Table, names: Sequence[str], findings: Findings) -> None:
    counts: Counter[str] = Counter()
    examples: list[str] = []
    for name in names:
        for kind, wrong in wrongly_encoded(table[name]).items():
            rows = np.flatnonzero(wrong)
            counts[kind] += len(rows)
            examples += [f"{table['origin'][row]}: {table[name][row]}" for row in rows[:MOST_EXAMPLES]]
    listed = _listed(counts)
    findings.add(
        "encoding",
        counts.total(),
        "texts once decoded wrongly, or with control characters" + listed,
        examples,
        share=share_of(counts.total(), len(table) * len(names)),
    )


def check_images(looks: Sequence[Look], origins: Sequence[str], findings: Findings) -> None:
    """The check `unusual_images`, on sound rows: they are normalised wherever images are decoded."""
    if not findings.looks("unusual_images"):
        return
    counts = Counter(kind for look in looks for kind in look.unusual)
    rows = [row for row, look in enumerate(looks) if look.unusual]
    examples = (f"{origins[row]}: {', '.join(looks[row].unusual)}" for row in rows)
    note = "unusual images, made upright grey or RGB of 8 bits" + _listed(counts)
    findings.add("unusual_images", len(rows), note, examples, share=share_of(len(rows), len(looks)))


def check_sounds(table: pa.Table, columns: TaskColumns, findings: Findings) -> None:
    """The check `silent_sounds`, on sound rows."""
    names = columns.inputs_of("audio")
    if not (names and findings.looks("silent_sounds")):
        return
    encoded = ([one for chunk in table[name].chunks for one in chunk.flatten()[0]] for name in names)
    silent = [n for n, row in enumerate(zip(*encoded, strict=True)) if any(map(_silent, row))]
    examples, share = (table["origin"][n].as_py() for n in silent), share_of(len(silent), len(table))
    cure = "remove them, or record them again"
    findings.add("silent_sounds", len(silent), "recordings hold digital silence alone", examples, cure, share)


def _silent(sound: pa.BinaryScalar) -> bool:
    return is_silent(memoryview(sound.as_buffer()))


def _listed(counts: Counter[str]) -> str:
    parts = [f"{count} {kind}" for kind, count in sorted(counts.items()) if count]
    return f" ({', '.join(parts)})" if parts else ""
