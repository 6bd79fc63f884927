"""Report, card, closing table, registration.json and registry say the same of a model, with the reason."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from retrainer.errors import ModelError, UserError
from retrainer.evaluation.summary import closing_table
from retrainer.evaluation.told import told
from retrainer.formats.report import CARD, HTML, METRICS
from retrainer.registry.promote import promote, rollback
from retrainer.registry.register import FILE, register_model
from retrainer.registry.standing import STANDING, decision_on, standing
from retrainer.services import lookup
from retrainer.services.connection import client
from retrainer.settings import Registry
from tests.champions import NAME, NET, Project, in_a_copy, without_serving_check
from tests.registered import untrained_model

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]

# By which any of these models passes, and by which none does.
ANY = {"policy": "not-worse", "margin": 0.95}
NONE = {"min_value": 1.0}
BADGES = {"passes the gate": "champion", "champion": "champion", "challenger": "challenger"}


@dataclass(frozen=True)
class Outcome:
    """What came of a model: the alias that all places name, and why, in the closing table's words."""

    alias: str
    why: str
    badge: str


@pytest.fixture
def project(three_versions: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    without_serving_check(monkeypatch)
    return in_a_copy(three_versions, tmp_path, monkeypatch)


def ended(project: Project, seed: int, net: Registry = NET, **gate: Any) -> Outcome:
    """Judges and registers the model of this seed; what all places say of it must be one."""
    model = project.folder / f"model-{seed}"
    if not model.is_dir():
        untrained_model(model, project.dataset, seed=seed)
    report = project.report(model, name=net.name, **gate)
    made = register_model(model, report, project.folder / f"registration-{seed}", net)
    figures = json.loads((report / METRICS).read_text())
    badge, card, table = said(report, figures, made)
    held = lookup.state(net.name)
    version = lookup.by_version(net.name, made["version"])
    assert version is not None
    assert held[made["alias"]] == made["version"]
    assert {made["alias"]} == {BADGES[badge], BADGES[card.lower()], table.partition(":")[0]}
    assert figures["gate"]["verdict"] == made["verdict"] == made["alias"]
    assert figures["gate"]["reasons"] == made["reasons"]
    assert version.tags[STANDING] == str(standing(net.name, made["version"]))
    assert version.tags[STANDING].startswith(made["alias"])
    return Outcome(made["alias"], table, badge)


def said(report: Path, figures: dict[str, Any], registration: dict[str, Any]) -> tuple[str, str, str]:
    """The report's badge, the card's first word on the model, the closing table's verdict."""
    page, card = (report / HTML).read_text(), (report / CARD).read_text()
    badge, bold = re.search(r'<span class="verdict \w+">([^<]*)<', page), re.search(r"\*\*([^*]+)\*\*", card)
    table = " ".join(closing_table(figures, registration, report / HTML).split())
    verdict = re.search(r"verdict (.*?) (?:to pass|note|detectable) ", table)
    assert badge and bold and verdict
    return badge[1], bold[1], verdict[1]


def test_the_first_version(project: Project) -> None:
    first = ended(project, 11, Registry(name="other"), **ANY)
    assert first.alias == "champion" and first.badge == "passes the gate"
    assert first.why == "champion: the first version, so there is none to compare it with"
    made = json.loads((project.folder / "registration-11" / FILE).read_text())
    runs = [client().get_run(made[f"{step}_run_id"]).info.run_name for step in ("train", "evaluation")]
    assert runs == [f"other scratch, version 1, {step}" for step in ("train", "evaluate")]
    assert "training.strategy" in (project.folder / "model-11-report" / HTML).read_text()


def test_a_version_after_others_of_which_none_is_champion(project: Project) -> None:
    other = Registry(name="other")
    assert ended(project, 11, other, **NONE).alias == "challenger"
    again = ended(project, 12, other, **ANY)
    assert again.why.startswith("champion: no version is champion now, so there is none to compare it with")


def test_one_that_is_promoted_one_that_is_held_and_one_that_is_the_champion(project: Project) -> None:
    promoted = ended(project, 11, **ANY)
    assert promoted.alias == "champion" and "worse than the champion by less than 0.95" in promoted.why
    held = ended(project, 12, **NONE)
    assert held.alias == "challenger" and "below gate.min_value = 1" in held.why
    same = ended(project, 11, **NONE)
    assert (same.alias, same.badge) == ("champion", "champion")
    assert "the very model that is champion" in same.why


def test_one_that_a_person_rolled_back(project: Project) -> None:
    """Unchanged it stays what the person made it; another candidate is judged on its merits."""
    rollback(NAME, "too slow")
    again = ended(project, 1, **ANY)
    assert again.alias == "challenger" and lookup.state(NAME)["champion"] == "1"
    taken = "took the championship from version 2 and gave it to version 1 (make rollback: too slow)"
    assert taken in again.why and "`make promote VERSION=2` gives it back" in again.why
    decision = decision_on(NAME, lookup.by_version(NAME, "1").model_sha256)  # type: ignore[union-attr]
    assert decision and "went back to it from version 2 (make rollback: too slow)" in decision.why
    assert ended(project, 11, **ANY).alias == "champion"


def test_one_that_a_person_promoted_against_the_gate(project: Project) -> None:
    promote(NAME, "3", "customers asked for it")
    again = ended(project, 2, **NONE)
    assert (again.alias, again.badge) == ("champion", "champion")
    assert "made it champion (make promote: customers asked for it (the gate was against it))" in again.why
    assert standing(NAME, "2").why.endswith("(the gate was against it))"), "the version that it took it from"


def test_one_that_was_taken_back_and_given_back(project: Project) -> None:
    """That a person had taken it back is no word of the gate against it."""
    rollback(NAME, "too slow")
    ended(project, 1, **ANY)
    assert "the gate's verdict on it: champion" in promote(NAME, "2", "fast enough")
    assert "(make promote: fast enough)" in ended(project, 1, **ANY).why


def test_one_from_which_another_tool_moved_the_alias(project: Project) -> None:
    client().set_registered_model_alias(NAME, "champion", "1")
    again = ended(project, 1, **ANY)
    assert again.alias == "challenger"
    assert "another tool than retrainer moved the alias champion from version 2 to version 1" in again.why


def test_what_somebody_decides_between_judging_and_registering_is_not_overruled(project: Project) -> None:
    model = project.folder / "model-1"
    report = project.report(model, **ANY)
    rollback(NAME, "meanwhile")
    with pytest.raises(UserError, match="run evaluate again"):
        register_model(model, report, project.folder / "out", NET)
    assert lookup.state(NAME)["champion"] == "1"


def test_a_refused_registration_is_nowhere_said_to_be_champion(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> float:
        raise ModelError("it does not answer as evaluated")

    monkeypatch.setattr("retrainer.registry.versions.check_serving", refuse)
    model = untrained_model(project.folder / "model-11", project.dataset, seed=11)
    report = project.report(model, **ANY)
    with pytest.raises(UserError, match="does not answer"):
        register_model(model, report, project.folder / "out", NET)
    badge, card, _ = said(report, json.loads((report / METRICS).read_text()), {})
    assert (badge, card) == ("passes the gate", "Passes the gate"), "what the gate said, and no more"
    assert "becomes champion when it is registered and has proven to serve" in (report / HTML).read_text()
    assert lookup.state(NAME)["champion"] == "2" and not (project.folder / "out" / FILE).exists()


def challenger(difference: float, rows_to_pass: int | None, policy: str = "better") -> dict[str, Any]:
    """Of a report what is read to say what would let its model pass."""
    gate = {"verdict": "challenger", "reasons": ["not shown"], "policy": policy, "margin": 0.01, "power": 0.8}
    figures = {"difference": difference, "compared_rows": 970, "rows_to_pass": rows_to_pass}
    rules = [{"name": "comparison", "passed": False}, {"name": "latency", "passed": False}]
    about = {"accuracy": {"unit": "share", "title": "accuracy", "higher_is_better": True}}
    return {"gate": gate | figures | {"rules": rules}, "headline": "accuracy", "about": about}


def test_a_challenger_hears_what_would_let_it_pass() -> None:
    rows, policy, others, anyway = told(challenger(0.012, 3400)).to_pass
    assert rows.startswith("about 2,430 more test rows at the measured +1.2 points: some 3,400 compared rows")
    assert policy.startswith("`gate.policy: not-worse`") and "gate.margin (0.01)" in policy
    assert others == "this rule too must hold, or be set otherwise: latency"
    assert anyway == "to use this one all the same: `make promote VERSION=… WHY=…`"
    unknown, *_ = told(challenger(0.00001, None)).to_pass
    assert unknown.startswith("a better model, or far more test rows")
    worse, *_ = told(challenger(-0.004, None)).to_pass
    none = "a better model: at the measured -0.4 points no number of test rows shows it to be better"
    assert worse.startswith(none) and "`make tune`" in worse
    assert len(told(challenger(-0.012, None, "not-worse")).to_pass) == 3, "the policy is that one already"
