"""The anchor: month after month a little worse ends at one margin below the best champion so far."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrainer import metrics
from retrainer.__main__ import main
from retrainer.errors import UserError
from retrainer.gate.evidence import AgainstAnchor, Evidence
from retrainer.gate.measured import Measured
from retrainer.gate.pair import Pair
from retrainer.gate.verdict import Verdict, judge
from retrainer.registry import anchor as anchors
from retrainer.registry.anchor import anchor_of, anchorings, move_anchor
from retrainer.registry.champion import fetch_anchor, fetch_champion
from retrainer.registry.promote import promote, rollback
from retrainer.registry.register import register_model
from retrainer.services import lookup
from retrainer.services.connection import client
from retrainer.settings import Gate
from tests.champions import NAME, NET, Project, files_of, in_a_copy, set_verdict, without_serving_check
from tests.registered import judged as report_of
from tests.registered import untrained_model

# MLflow's own queries, seen by a newer SQLAlchemy; and what it warns itself of while it is imported.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]

ACCURACY = metrics.load("accuracy", "test")
ROWS = 2000
NOT_WORSE = Gate(beat_trivial=False, policy="not-worse", margin=0.05)
BETTER = Gate(beat_trivial=False)


def model(rights: int) -> Measured:
    """It has the first of the rows right, and no other."""
    return Measured(ACCURACY, np.stack([np.arange(ROWS) < rights, np.ones(ROWS)], axis=1).astype(float))


def judged(gate: Gate, candidate: int, champion: int, anchor: int | None) -> Verdict:
    """By how many of the rows each has right; `anchor` None: it is the champion."""
    mine = model(candidate)
    beside = AgainstAnchor("1", is_champion=True)
    if anchor is not None:
        beside = AgainstAnchor("1", pair=Pair(mine, model(anchor)))
    return judge(
        gate, Evidence(mine, "accuracy", "accuracy", champion=Pair(mine, model(champion)), anchor=beside)
    )


def year(gate: Gate, drift: int, anchored: bool = True) -> list[int]:
    """What the champion has right after each of twelve months, each candidate `drift` rows from it."""
    champion = anchor = 1800
    found = []
    for _ in range(12):
        verdict = judged(
            gate, champion + drift, champion, anchor if anchored and anchor != champion else None
        )
        if verdict.verdict == "champion":
            champion += drift
            assert verdict.anchor is not None
            anchor = champion if verdict.anchor.raises else anchor
        found.append(champion)
    return found


def test_a_drift_of_most_of_a_margin_is_stopped_at_the_second_month() -> None:
    drift = -int(0.8 * NOT_WORSE.margin * ROWS)
    assert year(NOT_WORSE, drift, anchored=False)[-1] == 1800 + 12 * drift, "without an anchor"
    assert year(NOT_WORSE, drift) == [1720] * 12
    assert year(BETTER, drift, anchored=False) == year(BETTER, drift) == [1800] * 12


def test_a_steady_gain_that_no_month_shows_raises_the_anchor_in_the_end() -> None:
    """Four rows a month are not shown to be better than the champion; five months of them than the anchor."""
    assert year(NOT_WORSE, 4)[-1] == 1800 + 12 * 4
    verdict = judged(NOT_WORSE, 1820, 1816, 1800)
    assert verdict.anchor is not None and verdict.anchor.raises
    assert not judged(NOT_WORSE, 1804, 1800, None).anchor.raises  # type: ignore[union-attr]
    assert judged(BETTER, 1820, 1800, None).anchor.raises  # type: ignore[union-attr]


def test_a_candidate_below_the_anchor_is_held_and_told_the_way_out() -> None:
    verdict = judged(NOT_WORSE, 1640, 1720, 1800)
    assert verdict.verdict == "challenger"
    (rule,) = [one for one in verdict.rules if one.name == "anchor"]
    assert rule.note == verdict.reasons[0]
    assert rule.note.startswith(
        "may be worse than the anchor, version 1, the best champion so far, by 0.05 or more: of 2,000 rows it"
        " alone has 0 right, the anchor alone 160 (p = 1 > 0.05)"
    )
    assert rule.note.endswith('; `make anchor VERSION=… WHY="…"` names another')
    assert verdict.anchor is not None and verdict.anchor.difference == pytest.approx(-0.08)


@pytest.mark.parametrize("gate", [NOT_WORSE, BETTER], ids=["not-worse", "better"])
def test_a_step_up_from_what_is_in_use_is_never_held(gate: Gate) -> None:
    """A person has promoted something far below the anchor."""
    verdict = judged(gate, 1500, 1400, 1800)
    assert verdict.verdict == "champion"
    assert any(one.name == "anchor" for one in verdict.rules) == (gate is NOT_WORSE)
    assert verdict.anchor is not None and not verdict.anchor.raises
    assert judged(NOT_WORSE, 1401, 1400, 1800).verdict == "challenger"


def test_an_anchor_that_cannot_be_compared_holds_what_is_not_shown_to_be_better() -> None:
    lost = AgainstAnchor("3", incomparable="it was deleted")
    for candidate, verdict in ((1800, "challenger"), (1900, "champion")):
        mine = model(candidate)
        found = judge(
            NOT_WORSE,
            Evidence(mine, "accuracy", "accuracy", champion=Pair(mine, model(1800)), anchor=lost),
        )
        (rule,) = [one for one in found.rules if one.name == "anchor"]
        assert found.verdict == verdict and found.anchor is not None and not found.anchor.raises
        assert rule.note.startswith("the anchor, version 3, cannot be compared on these rows: it was deleted")
        assert rule.value is None


def test_the_champion_itself_and_the_anchor_itself_are_no_questions() -> None:
    mine = model(1800)
    itself = Evidence(mine, "accuracy", "accuracy", is_champion=True, anchor=AgainstAnchor("1"))
    assert judge(NOT_WORSE, itself).anchor is None
    again = Evidence(
        mine, "accuracy", "accuracy", champion=Pair(mine, model(1700)), anchor=AgainstAnchor("1")
    )
    verdict = judge(NOT_WORSE, again)
    assert verdict.verdict == "champion" and verdict.anchor is not None and not verdict.anchor.raises


# --- which version it is ------------------------------------------------------------------------------------


@pytest.fixture
def project(three_versions: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    without_serving_check(monkeypatch)
    return in_a_copy(three_versions, tmp_path, monkeypatch)


def set_gate(report: Path, **fields: object) -> None:
    file = report / "metrics.json"
    figures = json.loads(file.read_text())
    figures["gate"] = figures["gate"] | fields
    file.write_text(json.dumps(figures))


def raised(project: Project, seed: int) -> Path:
    """A candidate that the gate promotes because it is better than the anchor; its model directory."""
    made, report = project.candidate(seed)
    anchor = json.loads((report / "metrics.json").read_text())["gate"]["anchor"]
    set_gate(report, anchor=anchor | {"raises": True})
    set_verdict(report, "champion")
    register_model(made, report, project.folder / f"registration-{seed}", NET)
    return made


@pytest.mark.slow
def test_it_goes_up_with_what_is_better_and_back_with_a_rollback(project: Project) -> None:
    assert anchor_of(NAME) == "1", "version 2 was promoted, and not shown to be better than it"
    raised(project, 7)
    assert (lookup.state(NAME)["champion"], anchor_of(NAME)) == ("4", "4")
    (entry,) = anchorings(NAME)
    assert (entry.how, entry.before, entry.version) == ("register", "1", "4")
    rollback(NAME, "complaints")
    assert (lookup.state(NAME)["champion"], anchor_of(NAME)) == ("2", "1")
    promote(NAME, "4", "the complaints were about something else")
    assert anchor_of(NAME) == "4"


def test_a_promotion_that_fails_leaves_the_anchor(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry is written before the alias moves, so a crash between them cannot lose it."""

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("retrainer.registry.register.move_champion", crash)
        with pytest.raises(KeyboardInterrupt):
            raised(project, 7)
    assert len(anchorings(NAME)) == 1 and anchor_of(NAME) == "1"


@pytest.mark.usefixtures("project")
def test_a_registry_of_before_anchors_has_the_last_that_was_shown_to_be_better() -> None:
    mlflow, second = client(), lookup.by_version(NAME, "2")
    assert second is not None
    for tag in [tag for tag in second.tags if tag.startswith("gate.anchor")]:
        mlflow.delete_model_version_tag(NAME, "2", tag)
    assert anchor_of(NAME) == "2"
    mlflow.set_model_version_tag(NAME, "2", "gate.policy", "not-worse")
    assert anchor_of(NAME) == "1"
    assert anchor_of("nothing registered") is None


@pytest.mark.usefixtures("project")
def test_a_person_moves_it_for_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["anchor", "2"]) == 2
    assert 'say why the anchor moves: make anchor VERSION=2 WHY="…"' in capsys.readouterr().err
    assert main(["anchor", "3", "--why", "x"]) == 2
    assert "no champion, nor was it one that stayed, so it cannot be the anchor: one of 1, 2 can" in (
        capsys.readouterr().err
    )
    assert main(["anchor", "2", "--why", "the labels\nchanged"]) == 0
    assert "version 2 is the anchor of 'net' (version 1 was)" in capsys.readouterr().out
    assert main(["anchor", "2", "--why", "again"]) == 0
    assert "already" in capsys.readouterr().out
    assert main(["history"]) == 0
    line = capsys.readouterr().out.splitlines()[-2]
    assert line.startswith("anchor: version 2, below which none may fall (") and line.endswith(
        ": the labels changed)"
    )
    rollback(NAME, "")
    assert anchor_of(NAME) == "1", "what was rolled back is no anchor"


@pytest.mark.usefixtures("project")
def test_promoting_by_hand_moves_no_anchor_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["promote", "3", "--why", "customers asked"]) == 0
    assert anchor_of(NAME) == "1"
    assert "the anchor stays version 1: " in (said := capsys.readouterr().out)
    assert 'make anchor VERSION=3 WHY="…" moves it' in said
    assert main(["anchor", "3", "--why", "as said"]) == 0 and anchor_of(NAME) == "3"


def test_an_anchor_that_moved_since_evaluation_makes_register_stop(project: Project) -> None:
    made, report = project.candidate(7, "champion")
    move_anchor(NAME, "2", "another view of it")
    with pytest.raises(
        UserError, match=r"^the anchor of 'net' changed since evaluate judged \(then version 1, now"
    ):
        register_model(made, report, project.folder / "late", NET)
    assert lookup.state(NAME)["champion"] == "2"


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("value", ["[]", '{"version": "2"}', '{"version": 2, "how": 3}'])
def test_a_tag_that_somebody_edited_is_no_entry(value: str) -> None:
    mlflow = client()
    mlflow.set_registered_model_tag(NAME, f"{anchors.PREFIX}20261126T000000.000000-00000000", value)
    mlflow.set_registered_model_tag(NAME, f"{anchors.PREFIX}someday", '{"version": "2"}')
    assert anchorings(NAME) == [] and anchor_of(NAME) == "1"


# --- scored again -------------------------------------------------------------------------------------------


def test_it_is_fetched_where_it_is_another_than_the_champion(project: Project, tmp_path: Path) -> None:
    champion = fetch_champion(NAME, tmp_path)
    found = fetch_anchor(NAME, champion, tmp_path)
    assert champion is not None and found is not None and found.model is not None
    assert (found.version, found.model.version) == ("1", "1")
    assert found.model.model_sha256 == lookup.by_version(NAME, "1").model_sha256  # type: ignore[union-attr]
    assert fetch_anchor(NAME, None, tmp_path) is None
    move_anchor(NAME, "2", "why not")
    assert fetch_anchor(NAME, champion, tmp_path) == replace(found, version="2", model=champion)
    report = json.loads((project.candidate(9)[1] / "metrics.json").read_text())
    assert report["anchor"]["same"] and report["gate"]["anchor"]["is_champion"]


def test_a_verdict_is_made_with_the_anchor_and_the_report_shows_it(project: Project) -> None:
    _, report = project.candidate(9)
    figures = json.loads((report / "metrics.json").read_text())
    assert figures["anchor"]["version"] == "1" and figures["anchor"]["compared"]
    outcome = figures["gate"]["anchor"]
    assert outcome["rows"] == figures["rows"] and not outcome["is_champion"]
    assert "anchor (version 1)" in (report / "report.html").read_text()
    assert "anchor (version 1)" in (report / "model_card.md").read_text()


@pytest.mark.parametrize("loss", ["deleted", "altered"])
def test_one_that_is_lost_is_told_and_holds(project: Project, loss: str) -> None:
    if loss == "deleted":
        client().delete_model_version(NAME, "1")
    else:
        (files_of("1") / "artifacts/model/model.safetensors").write_bytes(b"no weights")
    model, scratch = (
        untrained_model(project.folder / "model-9", project.dataset, seed=9),
        project.folder / "s",
    )
    champion = fetch_champion(NAME, scratch)
    anchor = fetch_anchor(NAME, champion, scratch)
    out = project.folder / "report-9"
    report = report_of(out, project.dataset, model, champion, anchor, policy="not-worse", margin=0.3)
    text = (report / "metrics.json").read_text()
    figures = json.loads(text)
    said = {"deleted": "it was deleted", "altered": "was altered"}[loss]
    assert figures["gate"]["verdict"] == "challenger" and str(project.folder) not in text
    assert any(
        "the anchor, version 1, cannot be compared" in one and said in one
        for one in figures["gate"]["reasons"]
    )
    promote(NAME, "3", "it must go on")
    move_anchor(NAME, "3", "version 1 is lost")
    found = fetch_anchor(NAME, fetch_champion(NAME, project.folder), project.folder)
    assert found is not None and found.model is not None
