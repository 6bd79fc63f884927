"""When DVC need not be asked: whatever it would look at changes the snapshot."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines._dvc import reproduce
from pipelines._unchanged import is_known, remember, snapshot
from retrainer.errors import SettingError
from retrainer.resolve import Resolved

LOCK = """
stages:
  train@tiny:
    deps: [{path: runs/tiny/dataset}]
    outs: [{path: runs/tiny/model}, {path: runs/tiny/note.txt}]
  own:
    deps: [{path: data/own.csv}]
  train@other:
    deps: [{path: runs/other/dataset}]
"""


@pytest.fixture
def resolved(tmp_path: Path) -> Resolved:
    files = {
        "dvc.yaml": "stages: {}",
        "dvc.lock": LOCK,
        ".run/tiny/settings.json": "{}",
        "runs/tiny/dataset/deep/rows.parquet": "rows",
        "runs/tiny/model/weights": "weights",
        "runs/tiny/note.txt": "note",
        "runs/other/dataset": "other",
        "data/own.csv": "own",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Resolved("tiny", tmp_path / ".run" / "tiny", {})


def edit_in_place(path: Path) -> None:
    """Another content of the same length, and the time of before."""
    before = path.stat()
    path.write_text(path.read_text()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def add(path: Path) -> None:
    path.with_name("more").write_text("")


CHANGES: list[tuple[str, Callable[[Path], None]]] = [
    ("dvc.yaml", edit_in_place),
    ("dvc.lock", lambda path: path.write_text(LOCK + "\n# again")),
    (".run/tiny/settings.json", lambda path: path.write_text("{ }")),
    ("runs/tiny/dataset/deep/rows.parquet", edit_in_place),
    ("runs/tiny/model/weights", add),
    ("runs/tiny/model/weights", lambda path: path.rename(path.with_name("other"))),
    ("runs/tiny/note.txt", Path.unlink),
    ("data/own.csv", edit_in_place),
]


@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_a_change_of_what_dvc_looks_at_is_seen(
    resolved: Resolved, tmp_path: Path, name: str, change: Callable[[Path], None]
) -> None:
    remember(resolved, snapshot(resolved, tmp_path))
    assert is_known(resolved, snapshot(resolved, tmp_path))
    change(tmp_path / name)
    assert not is_known(resolved, snapshot(resolved, tmp_path))


def test_another_recipes_outputs_do_not_count(resolved: Resolved, tmp_path: Path) -> None:
    before = snapshot(resolved, tmp_path)
    edit_in_place(tmp_path / "runs/other/dataset")
    assert snapshot(resolved, tmp_path) == before


@pytest.mark.parametrize(
    "lock", [None, "", "stages: [", "stages: {a: 1}", "stages: {a: {deps: [{path: s3://b/c}]}}"]
)
def test_without_a_readable_dvc_lock_nothing_counts_as_unchanged(
    resolved: Resolved, tmp_path: Path, lock: str | None
) -> None:
    (tmp_path / "dvc.lock").unlink() if lock is None else (tmp_path / "dvc.lock").write_text(lock)
    state = snapshot(resolved, tmp_path)
    remember(resolved, state)
    assert state == "" and not is_known(resolved, state)


def test_a_folder_without_git_is_told_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    with pytest.raises(SettingError, match=r"is no git repository, .*run `git init && git add"):
        reproduce(["train"], tmp_path, lambda *_: None, lambda: None)
