"""An alias that another tool moved: whoever reads what a run ends with is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retrainer.evaluation.report import render
from retrainer.evaluation.summary import closing_table
from retrainer.formats.report import METRICS
from retrainer.registry.champion import fetch_champion
from retrainer.registry.history import MOVING, _write, moved_by_another_tool, new_move
from retrainer.registry.promote import promote
from retrainer.services.connection import client
from tests.champions import NAME, Project, in_a_copy
from tests.html_page import Page

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]


@pytest.fixture
def project(three_versions: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return in_a_copy(three_versions, tmp_path, monkeypatch)


def test_a_champion_that_another_tool_made_is_told_in_the_table_and_the_report(project: Project) -> None:
    client().set_registered_model_alias(NAME, "champion", "1")
    _, path = project.candidate(seed=5)
    report = json.loads((path / METRICS).read_text())
    assert report["champion"]["moved_from"] == "2"
    table = " ".join(closing_table(report, {}, path / "report.html").split())
    told = "another tool than retrainer moved the alias champion to version 1"
    assert told in table and "`make promote VERSION=2` gives it back" in table
    assert told in Page(render(report, [])).text


def test_a_champion_that_retrainer_made_is_not(project: Project) -> None:
    promote(NAME, "1", "so it should be")
    _, path = project.candidate(seed=5)
    report = json.loads((path / METRICS).read_text())
    assert "moved_from" not in report["champion"]
    assert "another tool" not in closing_table(report, {}, path / "report.html")


def test_a_move_that_a_crash_left_open_is_retrainer_s_own(project: Project) -> None:
    mlflow = client()
    move = new_move(NAME, "promote", "2", "3", "", "champion")
    assert move.state == MOVING
    _write(mlflow, NAME, move)
    assert moved_by_another_tool(NAME, "2") is None, "it has not come to the move"
    mlflow.set_registered_model_alias(NAME, "champion", "3")
    assert moved_by_another_tool(NAME, "3") is None
    assert moved_by_another_tool(NAME, "1") == "2"
    champion = fetch_champion(NAME, project.folder / "scratch")
    assert champion and champion.moved_from == ""
