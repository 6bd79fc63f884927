"""What a notification says, and that nothing of the data, no path and no secret ever stands in it."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrainer.notify.deliver import deliver
from retrainer.notify.event import CAUSES, Event, Found, Rule, data_of, from_plain, rules_of
from retrainer.notify.local import Notifier
from retrainer.notify.message import body, facts, title
from retrainer.registry.judgement_tags import judgement_tags
from retrainer.services.outbox import FolderOutbox
from tests.webhook_server import CANARY, Server, receiver

TIME = "2026-11-26T03:00:41+00:00"
RULES = (
    Rule("comparison with the champion", False, 0.21, 0.05),
    Rule("slices below their floor", True, 0, 0),
)
PROMOTED = Event(
    "promoted",
    "0123456789abcdef",
    "mine",
    TIME,
    model="reviews",
    version="4",
    champion="4",
    verdict="champion",
    rules=(Rule("comparison with the champion", True, 0.003, 0.05),),
    rows_in=1200,
    left_out=7,
    found=(Found("near_duplicates", 12),),
    kfp_run_id="1b2c-3d",
    link="https://mlflow.example/#/experiments/7/runs/abc",
    seconds=51.4,
)
REFUSED = Event("refused", "0" * 16, "mine", TIME, model="m", version="5", champion="4", rules=RULES)
FAILED = Event("failed", "1" * 16, "mine", TIME, step="train", exit_status=137, cause="out of memory")
NOTHING = Event("nothing-new", "2" * 16, "mine", TIME, model="m", champion="4", step="decide")
SAME = Event("nothing-new", "3" * 16, "mine", TIME, model="m", version="4", champion="4", step="register")
EVENTS = (PROMOTED, REFUSED, FAILED, NOTHING, SAME)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (PROMOTED, "mine: version 4 of reviews is the new champion"),
        (REFUSED, "mine: version 5 of m stays challenger"),
        (FAILED, "mine: train failed (out of memory, exit status 137)"),
        (Event("failed", "4" * 16, "mine", TIME), "mine: the run failed"),
        (
            Event("failed", "4" * 16, "mine", TIME, step="preprocess", exit_status=2),
            "mine: preprocess stopped the run: it refused the data, or their settings; the log says which"
            " and why",
        ),
        (NOTHING, "mine: nothing new, so nothing was trained"),
        (SAME, "mine: no new data came: the same rows gave version 4 of m, the champion"),
    ],
)
def test_the_title_says_what_happened(event: Event, said: str) -> None:
    assert title(event) == said


def test_slack_gets_one_text_and_nothing_else() -> None:
    assert body(PROMOTED, "slack") == {
        "text": "*mine: version 4 of reviews is the new champion*\n"
        "champion: version 4\n"
        "comparison with the champion: holds: 0.003 (bound 0.05)\n"
        "data: 1,200 rows in, 7 left out; found: near duplicates 12\n"
        "took: 51 s\n"
        f"ended: {TIME}\n"
        "Kubeflow run: 1b2c-3d\n"
        "MLflow: https://mlflow.example/#/experiments/7/runs/abc"
    }


def test_teams_gets_a_message_with_one_adaptive_card() -> None:
    told = body(PROMOTED, "teams")
    assert set(told) == {"type", "attachments"} and told["type"] == "message"
    (attachment,) = told["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert card["type"] == "AdaptiveCard" and card["version"] == "1.2"
    assert card["body"][0]["text"] == title(PROMOTED)
    assert {"title": "took", "value": "51 s"} in card["body"][1]["facts"]
    assert card["actions"] == [{"type": "Action.OpenUrl", "title": "MLflow", "url": PROMOTED.link}]
    assert len(json.dumps(told)) < 28_000, "the most that Teams takes"


def test_machines_get_every_field_always() -> None:
    fields = set(body(PROMOTED, "json"))
    assert fields == {
        "text", "format_version", "event", "id", "recipe", "time", "model", "version", "champion", "verdict",
        "metric", "value", "rules", "rows_in", "left_out", "found", "step", "exit_status", "cause",
        "kfp_run_id", "link", "seconds",
    }  # fmt: skip
    assert all(set(body(event, "json")) == fields for event in EVENTS)
    told = body(REFUSED, "json")
    assert told["rules"][0] == {
        "rule": "comparison with the champion", "passed": False, "value": 0.21, "bound": 0.05,
    }  # fmt: skip
    assert told["step"] is None and told["format_version"] == 1


@pytest.mark.parametrize("event", EVENTS)
def test_what_waited_says_the_same(event: Event) -> None:
    assert from_plain(json.loads(json.dumps(event.plain()))) == event


def test_slack_reads_no_mention_and_no_link_in_a_name() -> None:
    """A name of another form than ours is left out, whatever it holds."""
    told = body(Event("failed", "5" * 16, "<!channel> & <https://x|y>", TIME), "slack")
    assert told["text"].startswith("*a recipe: the run failed*")


def test_rules_on_slices_are_counted_and_not_named() -> None:
    rules = [
        {"name": "comparison", "value": None, "bound": 0.05, "passed": True},
        {"name": "model size", "value": 90.25, "bound": 100.0, "passed": True},
        {"name": "customer = Jane Doe", "value": 0.4, "bound": 0.7, "passed": False},
        {"name": "customer = John Roe", "value": 0.8, "bound": 0.7, "passed": True},
    ]
    assert rules_of(judgement_tags({"gate": {"rules": rules}})) == (
        Rule("comparison with the champion", True, None, 0.05),
        Rule("model size in MB", True, 90.25, 100.0),
        Rule("slices below their floor", False, 1, 0),
    )


def test_what_the_checks_found_is_told_by_name_and_number() -> None:
    checks = [
        {"name": "unseen_class", "count": 1},
        {"name": "empty", "count": 0},
        {"name": "unseen_class", "count": 2},
    ]
    data = {"rows": {"train": 90, "test": 8}, "dropped": {"empty text": 2}, "checks": checks}
    tags = judgement_tags({"gate": {}, "data": data})
    assert tags["data.found"] == "unseen_class 3"
    told = data_of(tags)
    assert told == {"rows_in": 100, "left_out": 2, "found": (Found("unseen_class", 3),)}
    clean = judgement_tags({"gate": {}, "data": data | {"checks": []}})
    assert clean["data.found"] == "nothing" and data_of(clean)["found"] == ()
    assert dict(facts(Event("promoted", "6" * 16, "mine", TIME, **data_of(clean))))["data"] == (
        "100 rows in, 2 left out; found: nothing"
    )
    assert data_of({"data.rows_in": "many"}) == {}, "a version that somebody edited"


# --- whatever the data holds ---------------------------------------------------------------------------

# Long enough not to be a word of ours, and of every character that could matter.
SECRETS = st.text(string.ascii_letters + string.digits + "/+=_-. <>&|\"'\\{}$é", min_size=8, max_size=40).map(
    lambda text: f"Zq{text}qZ"
)


@st.composite
def reports(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """metrics.json and registration.json with strange texts wherever data, paths or secrets may stand."""
    told: list[str] = []

    def data() -> str:
        told.append(draw(SECRETS))
        return told[-1]

    def rule(name: str) -> dict[str, Any]:
        value = draw(st.none() | st.floats(0, 1))
        passed = draw(st.booleans())
        return {
            "name": name,
            "setting": data(),
            "value": value,
            "bound": 0.5,
            "passed": passed,
            "note": data(),
        }

    before = draw(st.none() | st.just({"version": "1", "model_sha256": "a"}))
    alias = draw(st.sampled_from(["champion", "challenger"]))
    gate = {
        "verdict": draw(st.sampled_from(["champion", "challenger"]) | SECRETS),
        "reasons": [data(), data()],
        "rules": [rule("comparison"), rule(f"{data()} = {data()}"), rule(data())],
        "champion": before,
        "policy": data(),
        data(): data(),
    }
    report = {
        "gate": gate,
        "name": data(),
        "slices": [{"by": data(), "value": data()}],
        "cost": {data(): data()},
        "data": {
            "rows": {"train": 7},
            "dropped": {data(): 2},
            "checks": [
                {"name": data(), "count": 3, "note": data()},
                {"name": "empty", "count": 2, "note": data()},
            ],
        },
    }
    report |= {
        "test_set": {"sha256": "f", "uses": 1},
        "classes": [data()],
        "source": f"s3://u:{data()}@host/x",
    }
    registration = {
        "name": "reviews",
        "version": 2,
        "alias": alias,
        "model_sha256": draw(st.sampled_from("ab")),
        "verdict": gate["verdict"],
        "champion": before,
        "train_run_id": data(),
        "evaluation_run_id": draw(st.just("e" * 32) | SECRETS),
        "tracking_uri": f"https://{data()}@host/",
    }
    for text in (gate["verdict"], registration["evaluation_run_id"]):
        told += [text] if text.startswith("Zq") else []
    return report, registration, told


@pytest.fixture(scope="module")
def chat() -> Iterator[Server]:
    with receiver() as server:
        yield server


PASSWORD = "canary-password-51ab"


@given(told=reports(), format=st.sampled_from(["slack", "teams", "json"]))
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_data_no_path_and_no_secret_gets_into_a_message(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    chat: Server,
    told: tuple[dict[str, Any], dict[str, Any], list[str]],
    format: str,
) -> None:
    report, registration, hidden = told
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://user:{PASSWORD}@mlflow.example/a?token={PASSWORD}")
    monkeypatch.setenv("RETRAINER_WEBHOOK", chat.url)
    monkeypatch.setenv("RETRAINER_WEBHOOK_FORMAT", format)
    line = Notifier("mine", tmp_path).registered(report, registration)
    assert line.endswith("was delivered")
    text = json.dumps(chat.got[-1], ensure_ascii=False) + line
    for secret in [*hidden, PASSWORD, CANARY]:
        assert secret not in text and json.dumps(secret, ensure_ascii=False)[1:-1] not in text
    run_id = registration["evaluation_run_id"]
    assert (f"https://mlflow.example/a/#/runs/{run_id}" in text) == (run_id == "e" * 32)


FIELDS = st.sampled_from(sorted(Event.__dataclass_fields__))


@given(st.dictionaries(FIELDS, SECRETS | st.integers() | st.none()))
@settings(deadline=None, max_examples=80)
def test_no_field_takes_a_text_that_has_not_its_form(about: dict[str, Any]) -> None:
    about = {"event": "failed", "id": "a" * 16, "recipe": "r", "time": TIME} | about
    hidden = [value for name, value in about.items() if isinstance(value, str) and value.startswith("Zq")]
    # Names of recipes and models are the user's own, and free within their form.
    hidden = [text for text in hidden if text not in (about.get("recipe"), about.get("model"))]
    try:
        event = from_plain({**Event("failed", "a" * 16, "r", TIME).plain(), **about, "rules": []})
    except (ValueError, TypeError):
        return
    for format in ("slack", "teams", "json"):
        text = json.dumps(body(event, format), ensure_ascii=False)  # type: ignore[arg-type]
        assert not [secret for secret in hidden if secret in text]


def test_a_cause_is_one_of_a_fixed_list() -> None:
    assert Event("failed", "a" * 16, "r", TIME, cause="row 7 of Jane Doe").cause is None
    assert all(Event("failed", "a" * 16, "r", TIME, cause=cause).cause == cause for cause in CAUSES)


def test_a_webhook_can_ask_for_some_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = [Event(kind, kind[:1] * 16, "r", TIME) for kind in ("refused", "promoted")]
    with receiver() as server:
        monkeypatch.setenv("RETRAINER_WEBHOOK", server.url)
        monkeypatch.setenv("RETRAINER_WEBHOOK_EVENTS", "promoted, failed")
        said = [deliver(event, FolderOutbox(tmp_path)).line for event in events]
        assert Notifier("mine", tmp_path).test() == "webhook: 'test' was delivered"
        monkeypatch.setenv("RETRAINER_WEBHOOK_EVENTS", "promotions")
        unknown = Notifier("mine", tmp_path).test()
        kept = FolderOutbox(tmp_path)
        kept.keep(events[0].plain())
        monkeypatch.setenv("RETRAINER_WEBHOOK_EVENTS", "promoted")
        assert deliver(None, kept).line == "webhook: older ones delivered: 1"
        assert not list(kept.waiting())
    assert said == ["", "webhook: 'promoted' was delivered"]
    # The refusal that waited is no longer wanted; the test message is.
    assert [got["event"] for got in server.got] == ["promoted", "test", "test"]
    assert "RETRAINER_WEBHOOK_EVENTS: there is no event 'promotions'" in unknown and "kept in" in unknown


def test_a_test_message_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as server:
        monkeypatch.setenv("RETRAINER_WEBHOOK", server.url)
        assert Notifier("mine", tmp_path).test() == "webhook: 'test' was delivered"
    assert server.got[0]["text"].startswith("mine: a test: notifications arrive here")
    assert not list(FolderOutbox(tmp_path).waiting())
