"""runs/RECIPE/history: the reports of earlier runs, by when and version."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from retrainer.formats.report import seal_report
from retrainer.kept_reports import MOST, keep_report, kept_reports


def write_report(folder: Path, sha256: str, minute: int = 0, version: str = "") -> None:
    """A report of a model, written at that minute, and its registration where it has a version."""
    report = folder / "report"
    report.mkdir(parents=True, exist_ok=True)
    (report / "metrics.json").write_text(json.dumps({"model_sha256": sha256}))
    seal_report(report)
    os.utime(report / "metrics.json", (60 * minute, 60 * minute))
    if version:
        write_registration(folder, sha256, version)


def write_registration(folder: Path, sha256: str, version: str) -> None:
    (folder / "registration").mkdir(exist_ok=True)
    made = {"model_sha256": sha256, "version": version, "alias": "champion"}
    (folder / "registration" / "registration.json").write_text(json.dumps(made))


def names(folder: Path) -> list[str]:
    return [one.folder.name for one in kept_reports(folder)]


def test_a_report_is_kept_once_by_when_and_version(tmp_path: Path) -> None:
    assert keep_report(tmp_path) is None, "there is none"
    write_report(tmp_path, "a", 1, "1")
    kept = keep_report(tmp_path, {"gate": {"alpha": 0.1}}, "c0ffee")
    assert kept and json.loads((kept.report / "metrics.json").read_text()) == {"model_sha256": "a"}
    assert (kept.about["settings"], kept.about["git_commit"]) == ({"gate": {"alpha": 0.1}}, "c0ffee")
    assert keep_report(tmp_path) is None, "it is kept already"
    write_report(tmp_path, "b", 2)
    assert keep_report(tmp_path)
    assert names(tmp_path) == ["1970-01-01T00-01-00Z-v1", "1970-01-01T00-02-00Z-unregistered"]
    write_registration(tmp_path, "b", "2")
    assert keep_report(tmp_path)
    assert names(tmp_path)[1:] == ["1970-01-01T00-02-00Z-v2"], "registered since"


def test_the_oldest_reports_go(tmp_path: Path) -> None:
    for minute in range(MOST + 2):
        write_report(tmp_path, f"{minute}", minute, str(minute))
        (tmp_path / "history" / ".half-copied").mkdir(parents=True, exist_ok=True)
        assert keep_report(tmp_path)
    assert len(names(tmp_path)) == MOST and names(tmp_path)[0].endswith("-v2")
    assert not list((tmp_path / "history").glob(".*"))


def test_what_a_person_removed_stops_nothing(tmp_path: Path) -> None:
    write_report(tmp_path, "a", 1, "1")
    kept = keep_report(tmp_path)
    assert kept
    shutil.rmtree(kept.report)
    assert kept_reports(tmp_path) == []
    write_report(tmp_path, "b", 2)
    assert keep_report(tmp_path) and len(names(tmp_path)) == 1
