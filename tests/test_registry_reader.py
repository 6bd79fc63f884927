"""MLflow's SQLite file read without MLflow, in the states a killed writer leaves it in."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from retrainer.services.readers import SqliteReader

TABLE = "CREATE TABLE registered_model_tags (workspace TEXT, name TEXT, key TEXT, value TEXT)"
ROW = "INSERT INTO registered_model_tags VALUES ('default', 'm', 'k', ?)"
# A commit that spilled pages into the file, and dies before its end: the journal is hot.
KILLED = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("BEGIN IMMEDIATE")
database.execute("UPDATE registered_model_tags SET value = 'half'")
for _ in range(4000):
    database.execute("INSERT INTO registered_model_tags VALUES ('default', 'm', 'x', ?)", ("y" * 900,))
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mlflow.db"
    database = sqlite3.connect(path)
    database.execute(TABLE)
    database.execute(ROW, ("whole",))
    database.commit()
    database.close()
    return path


def test_what_a_killed_commit_left_is_rolled_back_before_reading(file: Path) -> None:
    killed = subprocess.run([sys.executable, "-I", "-c", KILLED, str(file)], check=False)
    assert killed.returncode == -9
    assert Path(f"{file}-journal").stat().st_size > 0, "no journal was left: the test tests nothing"
    assert SqliteReader(file).tags_of("m") == {"k": "whole"}


def test_reading_a_sound_file_writes_nothing(file: Path) -> None:
    before = _state(file)
    assert SqliteReader(file).tags_of("m") == {"k": "whole"}
    assert _state(file) == before


def _state(file: Path) -> tuple[bytes, int, list[Path]]:
    return file.read_bytes(), file.stat().st_mtime_ns, sorted(file.parent.iterdir())
