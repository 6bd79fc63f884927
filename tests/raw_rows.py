"""Small raw datasets, preprocessed: what the tests of preprocessing share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from retrainer.data.preprocess import preprocess
from retrainer.formats.dataset import SCHEMA, Dataset, write_dataset
from retrainer.formats.names import SPLITS
from retrainer.settings import Checks, Split, Task

TEXT = Task(kind="text_classification")
# Of few rows some are a large share: how the checks look is tested apart from what stops a run.
LIMITS = (
    "empty", "broken", "too_long", "label_spelling", "unseen_class", "conflicting_labels", "test_overlap",
    "near_test_overlap", "cut_texts", "unique_labels",
)  # fmt: skip
WARN = Checks.parse(dict.fromkeys(LIMITS, "warn"), "checks")
Row = dict


def raw_of(folder: Path, rows: list[Row], test: list[Row] | None = None) -> Path:
    """A raw dataset as ingest would write it."""

    def table(part: list[Row], name: str) -> pa.Table:
        columns = [n for n in SCHEMA if n != "origin" and any(n in row for row in [*rows, *(test or [])])]
        made = {n: pa.array([row.get(n) for row in part], SCHEMA[n]) for n in columns}
        origins = [row.get("origin", f"{name}:row {n}") for n, row in enumerate(part, start=1)]
        return pa.table({**made, "origin": pa.array(origins, pa.string())})

    splits = {"all": table(rows, "a.csv")} | ({"given_test": table(test, "t.csv")} if test else {})
    write_dataset(folder / "raw", splits)
    return folder / "raw"


def words(count: int, **more) -> list[Row]:
    return [{"text": f"text {n}", "labels": ["odd" if n % 2 else "even"], **more} for n in range(count)]


def run(
    folder: Path,
    rows: list[Row],
    own_test: list[Row] | None = None,
    task: Task = TEXT,
    checks: Checks = WARN,
    **split,
) -> dict:
    raw = raw_of(folder, rows, own_test)
    return preprocess(raw, folder / "out", Split(**split), checks, task, folder / "findings")


def told(manifest: dict) -> dict[str, tuple[int, str]]:
    """Check → how many and what; only those that found something."""
    return {found["name"]: (found["count"], found["note"]) for found in manifest["checks"] if found["count"]}


def where(folder: Path) -> dict[str, str]:
    """Origin → split, or the reason why it is in none."""
    dataset = Dataset(folder / "out")
    found = {origin: split for split in SPLITS for origin in dataset.split(split)["origin"].to_pylist()}
    if (folder / "out/dropped.parquet").is_file():
        found |= {
            row["origin"]: row["reason"] for row in pq.read_table(folder / "out/dropped.parquet").to_pylist()
        }
    return found


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one example of a property test, which has no fixture of its own."""
    folder = Path(tempfile.mkdtemp())
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
