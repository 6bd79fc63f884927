"""Thousands of classes: what the checks keep of them grows with the rows, not with tokens times classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from retrainer.data.probes import tokens
from retrainer.data.probes._rows import Sample
from retrainer.data.task_columns import TaskColumns
from retrainer.settings import Checks
from tests.raw_rows import TEXT, run

ROWS, CLASSES = 6000, 3000
COLUMNS = TaskColumns(("text",), ("labels",), {"text": "string", "labels": "strings"})


def sample(classes: int, rows: int = ROWS) -> Sample:
    """Every text has words of its class, and words that all share."""
    draw = np.random.default_rng(0)
    codes = np.arange(rows) % classes
    words = draw.integers(0, 400, (rows, 6))
    texts = [
        f"c{code % 50} " + " ".join(f"w{word}" for word in own)
        for code, own in zip(codes, words, strict=True)
    ]
    table = pa.table({"text": pa.array(texts)})
    return Sample(table, COLUMNS, codes, tuple(f"{n:04}" for n in range(classes)), draw.random(rows) < 0.5)


def test_what_is_counted_of_tokens_has_no_place_for_each_class() -> None:
    rows = sample(CLASSES)
    counts = tokens._counted(rows, rows.table["text"].to_pylist())
    assert len(counts.tokens) == 450
    assert all(getattr(counts, name).shape == (450,) for name in ("classes", "hits", "said", "had", "placed"))


@pytest.mark.parametrize("classes", [3, 70])
def test_the_counts_are_those_of_all_tokens_by_all_classes(classes: int) -> None:
    rows = sample(classes, 2000)
    counts, texts = tokens._counted(rows, rows.table["text"].to_pylist()), rows.table["text"].to_pylist()
    whole = np.zeros((2, len(counts.tokens), classes), np.int64)
    places = {token: at for at, token in enumerate(counts.tokens)}
    for text, code, fit in zip(texts, rows.codes, rows.fit, strict=True):
        for token in {*text.split()} & places.keys():
            whole[int(fit), places[token], code] += 1
    held, fitted = whole
    every = np.arange(len(counts.tokens))
    assert counts.classes.tolist() == fitted.argmax(axis=1).tolist()
    assert counts.hits.tolist() == held[every, counts.classes].tolist()
    assert counts.said.tolist() == held.sum(axis=1).tolist()
    assert counts.had.tolist() == whole.sum(axis=(0, 2)).tolist()


def test_labels_of_too_many_classes_are_not_judged_by_rows_times_classes(tmp_path: Path) -> None:
    rows = [{"text": f"a{n} b{n} c{n}", "labels": [f"class {n // 2}"]} for n in range(8_000)]
    off = dict.fromkeys(("near_duplicates", "shortcuts", "leaks", "personal_data", "encoding"), "off")
    manifest = run(tmp_path, rows, None, TEXT, Checks.parse(off, "checks"))
    notes = {one["name"]: one["note"] for one in manifest["checks"]}
    assert notes["label_noise"] == notes["shifted_labels"]
    assert notes["label_noise"].startswith("there are too many classes")
