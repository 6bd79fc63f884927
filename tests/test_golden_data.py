"""What ingest and preprocess make of small sources, kept in tests/golden: content hashes, splits, findings.

To write them anew after a change that is meant: `python -m tests.test_golden_data`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retrainer.data.ingest import ingest
from retrainer.data.preprocess import preprocess
from retrainer.settings import Source, Split, Task
from tests.raw_rows import WARN

GOLDEN = Path(__file__).with_name("golden")
KEPT = ("columns", "rows", "classes", "dropped", "content_sha256", "raw_content_sha256", "schema", "checks")


def texts(folder: Path) -> tuple[Source, Task, Split]:
    """Pairs of texts with groups, times, ids, a further column, duplicates, conflicts and gaps."""
    draws = np.random.default_rng(0)
    rows = []
    for number in range(120):
        words = [f"word{n}" for n in draws.integers(0, 400, 12)]
        label = ["good", "bad", "Bad ", ""][int(draws.choice(4, p=[0.5, 0.4, 0.07, 0.03]))]
        when = f"2024-0{1 + number % 9}-11"
        rows.append(
            [" ".join(words[:9]), " ".join(words[9:]), label, f"g{number // 4}", when, f"i{number}", "x"]
        )
    rows += [
        rows[3],
        [*rows[5][:2], "good", *rows[5][3:]],
        [*rows[6][:2], "bad", *rows[6][3:]],
        ["", *rows[7][1:]],
    ]
    write_csv(folder / "texts.csv", ["text", "text_pair", "label", "group", "time", "id", "place"], rows)
    return Source(path=str(folder / "texts.csv"), metadata=("place",)), Task(), Split()


def images(folder: Path) -> tuple[Source, Task, Split]:
    """Pictures of several labels, one of them broken, with an own test set and a quota."""
    draws = np.random.default_rng(1)
    for name, count in (("train", 40), ("test", 12)):
        rows = []
        for number in range(count):
            stream = io.BytesIO()
            Image.fromarray(draws.integers(0, 256, (9, 9), dtype=np.uint8)).save(stream, "PNG")
            (folder / f"{name}{number}.png").write_bytes(stream.getvalue()[: 40 if number == 3 else None])
            rows.append(
                [f"{name}{number}.png", "|".join(f"c{n}" for n in np.unique(draws.integers(0, 3, 2)))]
            )
        write_csv(folder / f"{name}.csv", ["image", "label"], rows)
    paths = {"path": str(folder / "train.csv"), "test_path": str(folder / "test.csv")}
    task = Task(kind="image_classification", multi_label=True)
    return Source(**paths, label_separator="|"), task, Split(train_per_class=9)


def write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


CASES = {"texts": texts, "images": images}


def made(case: str, folder: Path) -> dict[str, Any]:
    source, task, split = CASES[case](folder)
    raw = ingest(source, folder / "raw")
    manifest = preprocess(folder / "raw", folder / "dataset", split, WARN, task)
    from retrainer.formats.row_keys import read_components, read_row_keys

    keys = [read_row_keys(folder / "dataset"), read_components(folder / "dataset")]
    digests = [hashlib.sha256(one[name].tobytes()).hexdigest() for one in keys for name in sorted(one)]
    kept = {name: manifest[name] for name in KEPT}
    return kept | {"raw_columns": raw["columns"], "raw_classes": raw["classes"], "keys": digests}


@pytest.mark.parametrize("case", CASES)
def test_a_dataset_has_the_recorded_bytes(case: str, tmp_path: Path) -> None:
    assert made(case, tmp_path) == json.loads((GOLDEN / f"data-{case}.json").read_text())


if __name__ == "__main__":
    import tempfile

    for name in CASES:
        with tempfile.TemporaryDirectory() as aside:
            text = json.dumps(made(name, Path(aside)), indent=1, sort_keys=True)
        (GOLDEN / f"data-{name}.json").write_text(text + "\n")
