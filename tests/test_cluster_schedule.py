"""A recipe's one schedule on Kubeflow, whatever fails; and cron as Kubeflow's scheduler reads it."""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.cluster.client import ANSWER_SECONDS
from pipelines.cluster.connection import Connection, connect
from pipelines.cluster.cron import parse_cron
from pipelines.cluster.schedule import remove, replace, schedule, unschedule
from pipelines.cluster.submit import start
from pipelines.compile import Compiled, compile_recipe, images_named
from retrainer.errors import UserError
from tests.cluster_run import with_our_settings
from tests.kfp_api import CUT, CUT_AFTER, FAIL_500, Api, running_api

IMAGES = images_named("registry.example/retrainer@sha256:" + "a" * 64)
RECIPE = "digits-mlp"
NAME = f"retrainer-{RECIPE}"
NIGHTLY = parse_cron("0 0 3 * * *")
SECRET = ["cluster.mlflow_secret=mlflow"]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    with running_api() as running:
        monkeypatch.setenv("KFP_ENDPOINT", running.address)
        for name in ("KFP_NAMESPACE", "KFP_PIPELINE_ROOT", "KFP_TOKEN", "MLFLOW_TRACKING_URI"):
            monkeypatch.delenv(name, raising=False)
        yield running


@pytest.fixture
def connection(api: Api) -> Connection:  # noqa: ARG001 (its address is in the environment)
    return connect()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_our_settings(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def compiled(project: Path) -> Compiled:
    return compile_recipe(RECIPE, SECRET, IMAGES, project)


def crons(api: Api) -> list[str]:
    return [each["trigger"]["cron_schedule"]["cron"] for each in api.recurring.values()]


def test_a_schedule_does_what_was_asked(api: Api, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert schedule("0 0 3 * * *", RECIPE, SECRET, IMAGES, project) == 0
    (made,) = api.recurring.values()
    assert made["display_name"] == NAME
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert (made["no_catchup"], made["max_concurrency"], made["status"]) == (True, "1", "ENABLED")
    tasks = made["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    for step in ("ingest", "register"):
        told = tasks[step]["inputs"]["parameters"]["scheduled_time"]
        assert told == {"runtimeValue": {"constant": "{{$.pipeline_job_schedule_time_utc}}"}}
    assert made["recurring_run_id"] in capsys.readouterr().out
    assert unschedule(RECIPE, [], project) == 0
    assert api.recurring == {} and "deleted" in capsys.readouterr().out
    assert unschedule(RECIPE, [], project) == 0
    assert "there was none" in capsys.readouterr().out


def test_a_schedule_without_a_secret_for_mlflow_is_refused(
    api: Api, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubeflow's own MLflow plugin tells nothing to a schedule's runs."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    with pytest.raises(UserError, match=r"cluster\.mlflow_secret is empty: in scheduled runs"):
        schedule("0 0 3 * * *", RECIPE, [], IMAGES, project)
    assert not api.recurring


def test_the_same_name_replaces_also_one_made_by_hand(
    api: Api, connection: Connection, compiled: Compiled
) -> None:
    replace(connection, compiled, NIGHTLY)
    (made,) = api.recurring.values()
    api.recurring["by-hand"] = made | {"recurring_run_id": "by-hand", "description": "mine"}
    told = replace(connection, compiled, parse_cron("0 30 4 * * *"))
    assert crons(api) == ["0 30 4 * * *"]
    assert "it replaces 2" in told


def test_running_runs_survive_their_schedule(api: Api, connection: Connection, compiled: Compiled) -> None:
    """Kubernetes would delete a schedule's running workflows with it, were they not orphaned."""
    replace(connection, compiled, NIGHTLY)
    remove(connection, NAME)
    assert [q for method, _, q in api.queries if method == "DELETE"] == [{"propagation_policy": "ORPHAN"}]


def test_a_schedule_of_another_experiment_is_replaced_too(
    api: Api, connection: Connection, compiled: Compiled
) -> None:
    """The experiment follows from the settings: a changed one must not leave the old schedule running."""
    replace(connection, compiled, NIGHTLY)
    replace(connection, dataclasses.replace(compiled, experiment="another"), parse_cron("0 0 4 * * *"))
    assert crons(api) == ["0 0 4 * * *"]
    assert remove(connection, NAME) == 1 and not api.recurring


def test_a_teams_prefix_keeps_its_schedules_apart(
    api: Api, connection: Connection, compiled: Compiled
) -> None:
    replace(connection, compiled, NIGHTLY)
    cluster = compiled.cluster.model_copy(update={"model_prefix": "vision-"})
    replace(connection, dataclasses.replace(compiled, cluster=cluster), NIGHTLY)
    assert sorted(each["display_name"] for each in api.recurring.values()) == [NAME, f"vision-{NAME}"]


def test_the_schedule_of_a_recipe_that_is_gone_ends(
    api: Api, connection: Connection, compiled: Compiled, tmp_path: Path
) -> None:
    replace(connection, compiled, NIGHTLY)
    (tmp_path / "params.yaml").write_text("registry: other\n")
    assert unschedule(RECIPE, [], tmp_path) == 0
    assert not api.recurring


def test_what_kubeflow_made_otherwise_deletes_nothing(
    api: Api, connection: Connection, compiled: Compiled
) -> None:
    replace(connection, compiled, NIGHTLY)
    api.changes["recurringruns"] = {"no_catchup": False}
    with pytest.raises(UserError, match="otherwise than asked"):
        replace(connection, compiled, parse_cron("0 0 4 * * *"))
    assert "0 0 3 * * *" in crons(api)


@pytest.mark.parametrize("fault", [FAIL_500, CUT])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_after_a_failure_there_is_a_schedule_and_the_next_call_clears_up(
    api: Api, connection: Connection, compiled: Compiled, method: str, fault: str
) -> None:
    replace(connection, compiled, NIGHTLY)
    api.faults[method, "/recurringruns"] = [fault]
    with pytest.raises(UserError, match="KFP_ENDPOINT"):
        replace(connection, compiled, parse_cron("0 0 4 * * *"))
    assert crons(api)
    replace(connection, compiled, parse_cron("0 0 5 * * *"))
    assert crons(api) == ["0 0 5 * * *"]


def test_a_lost_answer_makes_no_second_schedule(api: Api, connection: Connection, compiled: Compiled) -> None:
    replace(connection, compiled, NIGHTLY)
    api.faults["POST", "/recurringruns"] = [CUT_AFTER]
    replace(connection, compiled, parse_cron("0 0 4 * * *"))
    assert crons(api) == ["0 0 4 * * *"]


@pytest.mark.slow
def test_a_hundred_calls_with_failures_leave_no_duplicate(api: Api, compiled: Compiled) -> None:
    """In any order; after each that succeeded the state is what it promises, after any other never worse."""
    draw = random.Random(0)
    failed = 0
    for number in range(100):
        call = draw.choice(["submit", "schedule", "schedule", "unschedule"])
        if draw.random() < 0.7:
            method = draw.choice(["GET", "POST", "DELETE"])
            skipped = [""] * draw.randrange(2)
            kind = draw.choice(["/runs", "/recurringruns", "/recurringruns"])
            api.faults[method, kind] = [*skipped, draw.choice([FAIL_500, CUT, CUT_AFTER])]
        runs, had = len(api.runs), len(api.recurring)
        cron = f"0 {number % 60} 3 * * *"
        connection = connect()  # a command's time is counted from its own first request
        try:
            if call == "submit":
                start(connection, compiled)
                assert len(api.runs) == runs + 1
            elif call == "schedule":
                replace(connection, compiled, parse_cron(cron))
                assert crons(api) == [cron], number
            else:
                remove(connection, NAME)
                assert crons(api) == [], number
        except UserError:
            failed += 1
            assert call != "schedule" or api.recurring or not had, number
        api.faults.clear()
    assert failed > 10
    replace(connect(), compiled, NIGHTLY)
    assert crons(api) == [NIGHTLY.text]


def test_calls_at_once_leave_exactly_one(api: Api, compiled: Compiled) -> None:
    for _ in range(2):
        errors: list[BaseException] = []

        def call(minute: int, errors: list[BaseException] = errors) -> None:
            try:
                replace(connect(), compiled, parse_cron(f"0 {minute} 3 * * *"))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=call, args=(minute,)) for minute in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # On a machine too busy to answer in time a call says so, and the next one clears up.
        assert all(isinstance(each, UserError) for each in errors)
        if errors:
            time.sleep(ANSWER_SECONDS)
            replace(connect(), compiled, NIGHTLY)
        assert len(api.recurring) == 1


@pytest.mark.parametrize(
    ("text", "coming"),
    [
        ("0 0 3 * * *", "2026-02-28 03:00:00"),
        ("0 30 3 ? * MON-FRI", "2026-02-27 03:30:00"),
        ("*/15 * * * * *", "2026-02-27 03:00:15"),
        ("0 5/10 3 * * *", "2026-02-27 03:05:00"),
        ("0 0 3 1,15 * 1", "2026-03-01 03:00:00"),  # the first, or a Monday
        ("0 0 3 */2 * sun", "2026-03-01 03:00:00"),  # an odd day that is a Sunday
        ("0 0 0 29 feb ?", "2028-02-29 00:00:00"),
        ("0 0 12 1-7 JAN,jul *", "2026-07-01 12:00:00"),
        ("@monthly", "2026-03-01 00:00:00"),
        ("@daily", "2026-02-28 00:00:00"),
        ("@every 1h30m", "2026-02-27 04:30:00"),
    ],
)
def test_the_next_moment(text: str, coming: str) -> None:
    after = parse_cron(text).after(datetime(2026, 2, 27, 3, 0, 0, tzinfo=UTC))
    assert f"{after:%Y-%m-%d %H:%M:%S}" == coming


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0 3 * * *", "has five fields.*did you mean '0 0 3 \\* \\* \\*'"),
        ("", "has 0 fields"),
        ("0 0 3 * * * *", "has 7 fields"),
        ("60 0 3 * * *", "the second '60' is out of range; it goes from 0 to 59"),
        ("0 0 24 * * *", "the hour '24' is out of range"),
        ("0 0 3 0 * *", "the day '0' is out of range; it goes from 1 to 31"),
        ("0 0 3 * 13 *", "the month '13' is out of range"),
        ("0 0 3 * * 7", "the weekday '7' is out of range; it goes from 0 to 6"),
        ("0 0 3 * * mo", "the weekday 'mo' is neither a number nor a name"),
        ("0 0 3 L * *", "the day 'L' is no number"),
        ("0 0 3 10-5 * *", "the day '10-5' is out of range"),
        ("0 */0 3 * * *", "the minute '\\*/0' has a step of 0"),
        ("0 -1 3 * * *", "the minute '-1' is no number"),
        ("0 1, 3 * * *", "the minute '' is no number"),
        ("0 0 3 31 2 *", "never comes"),
        ("@fortnightly", "known: @yearly"),
        ("@every 0s", "known: @yearly"),
    ],
)
def test_what_the_scheduler_would_refuse_or_misread(text: str, told: str) -> None:
    with pytest.raises(UserError, match=f"CRON=.*{told}"):
        parse_cron(text)


def test_a_wrong_cron_is_told_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KFP_ENDPOINT", raising=False)
    with pytest.raises(UserError, match="five fields"):
        schedule("0 3 * * *", RECIPE, [], IMAGES)
