"""The one schedule of a recipe on the cluster, by its name in the namespace, whatever experiment it is in.

Kubeflow lets many schedules have one name. Here a name has one: a new one is made and looked at before the
old is deleted, so a failure in between leaves too many and never none, and the next call clears up. Each
carries its revision in its description; the highest stays, and of two calls at once the higher id.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kfp_server_api

from pipelines.cluster.connection import Connection, Refused, Unanswered, connect
from pipelines.cluster.cron import Schedule, parse_cron
from pipelines.cluster.submit import pipeline_spec, runtime_config
from pipelines.compile import Compiled, compile_recipe
from pipelines.kubeflow import Images, pipeline_name
from pipelines.prediction import Scoring, scoring_name
from retrainer.errors import ServiceError, UserError
from retrainer.resolve import recipe_name, settle
from retrainer.settings import Cluster

_REVISION = re.compile(r"\brevision (\d+)\b")
_NOT_FOUND = 404
# A scheduled run that is going on belongs to its schedule and would be deleted with it.
_KEEP_RUNS = "ORPHAN"
_ROUNDS = 5


def schedule(
    cron: str,
    recipe: str | None,
    overrides: list[str],
    images: Images,
    root: Path = Path(),
    scoring: Scoring | None = None,
) -> int:
    """`make schedule`: the recipe runs by `cron` from now on, instead of by any schedule it had."""
    when = parse_cron(cron)
    connection = connect()
    compiled = compile_recipe(recipe, overrides, images, root, scheduled=True, scoring=scoring)
    print(replace(connection, compiled, when))
    return 0


def replace(connection: Connection, compiled: Compiled, when: Schedule) -> str:
    """Puts the compiled pipeline's schedule in place of any that has its name; returns what came of it."""
    experiment = connection.experiment_id(compiled.experiment, create=True)
    name = schedule_name(compiled.recipe, compiled.cluster)
    before = _named(connection, name)
    revision = 1 + max((_revision(each) for each in before), default=0)
    made = _create(connection, _body(compiled, experiment, when, revision))
    stays = _settle_on_one(connection, name, made, when)
    coming = when.after(datetime.now(UTC))
    if stays.recurring_run_id != made.recurring_run_id:
        return f"schedule {name}: another call came at the same moment, and its schedule stays: make runs"
    replaced = f"; it replaces {len(before)}" if before else ""
    return (
        f"schedule {name} ({stays.recurring_run_id}): {when.text}, next {coming:%Y-%m-%d %H:%M:%S} "
        f"if the cluster's scheduler goes by UTC{replaced}"
    )


def _settle_on_one(connection: Connection, name: str, made: Any, when: Schedule) -> Any:
    """Deletes all of the name but the highest, which is returned.

    Looks again until it sees one alone: a list that comes in pages misses what moves up when others delete.
    """
    stays = made
    for _ in range(_ROUNDS):
        found = _named(connection, name)
        stays = max(found, key=_rank) if found else made
        _check(stays, made, when)
        others = [each for each in found if each.recurring_run_id != stays.recurring_run_id]
        if not others:
            break
        _delete(connection, others)
    return stays


def unschedule(recipe: str | None, overrides: list[str], root: Path = Path(), predicts: bool = False) -> int:
    """`make unschedule`: the recipe no longer runs by itself, or no longer `predicts`. Runs that are going on
    go on."""
    connection = connect()
    try:
        _, sections = settle(recipe, overrides, root)
    except UserError:
        # The recipe may be gone, or broken by now: its schedule must not go on because of that.
        _, sections = settle(None, [], root)
    cluster = sections["cluster"]
    assert isinstance(cluster, Cluster)
    named = recipe_name(recipe, root)
    name = schedule_name(scoring_name(named) if predicts else named, cluster)
    deleted = remove(connection, name)
    print(f"schedule {name}: deleted" if deleted else f"schedule {name}: there was none")
    return 0


def schedule_name(recipe: str, cluster: Cluster) -> str:
    """The recipe's pipeline, behind the team's prefix where several share a namespace."""
    return cluster.model_prefix.lower() + pipeline_name(recipe)


def remove(connection: Connection, name: str) -> int:
    """Deletes every schedule of this name; returns how many."""
    deleted = 0
    # Another call may be making one at this moment.
    for _ in range(_ROUNDS):
        found = _named(connection, name)
        if not found:
            break
        deleted += _delete(connection, found)
    return deleted


def _body(compiled: Compiled, experiment: str, when: Schedule, revision: int) -> Any:
    trigger = kfp_server_api.V2beta1Trigger(cron_schedule=kfp_server_api.V2beta1CronSchedule(cron=when.text))
    return kfp_server_api.V2beta1RecurringRun(
        display_name=schedule_name(compiled.recipe, compiled.cluster),
        # The last word tells our own schedule from that of a call at the same moment.
        description=f"Runs '{compiled.recipe}'; revision {revision}, call {secrets.token_hex(4)}",
        experiment_id=experiment,
        pipeline_spec=pipeline_spec(compiled.path),
        runtime_config=runtime_config(),
        service_account=compiled.cluster.service_account or None,
        trigger=trigger,
        mode="ENABLE",
        max_concurrency="1",
        no_catchup=True,
    )


def _create(connection: Connection, body: Any) -> Any:
    """The new schedule; also when the server's answer was lost, and only the list tells."""
    try:
        return connection.schedules.recurring_run_service_create_recurring_run(body)
    except Unanswered as error:
        found = _named(connection, body.display_name)
        made = [each for each in found if each.description == body.description]
        if not made:
            raise ServiceError(
                f"{error}; the one before it is still there, and the new one may yet appear: run it again"
            ) from None
        return made[-1]


def _named(connection: Connection, name: str) -> list[Any]:
    return connection.find_schedules(display_name=name)


def _revision(schedule: Any) -> int:
    """0 for a schedule that was made by hand."""
    found = _REVISION.search(schedule.description or "")
    return int(found[1]) if found else 0


def _rank(schedule: Any) -> tuple[int, str]:
    return _revision(schedule), str(schedule.recurring_run_id)


def _check(stays: Any, made: Any, when: Schedule) -> None:
    """Raises UserError, before anything is deleted, when our schedule will not do what was asked."""
    if stays.recurring_run_id != made.recurring_run_id:
        return  # another call came at the same moment; its own check answers for it
    trigger = stays.trigger and stays.trigger.cron_schedule
    if stays.status == "DISABLED" or trigger is None or trigger.cron != when.text or not stays.no_catchup:
        raise ServiceError(
            f"Kubeflow made the schedule {stays.recurring_run_id} otherwise than asked; "
            "the one before it is still there: look at both with `make runs`"
        )


def _delete(connection: Connection, schedules: list[Any]) -> int:
    """Deletes them, lowest first; one that is gone already counts as deleted."""
    for each in sorted(schedules, key=_rank):
        try:
            connection.schedules.recurring_run_service_delete_recurring_run(
                str(each.recurring_run_id), propagation_policy=_KEEP_RUNS
            )
        except Refused as error:
            if error.status != _NOT_FOUND:
                raise
        except Unanswered as error:
            raise ServiceError(
                f"{error}; the schedule {each.recurring_run_id} may still be there: run the command again"
            ) from None
    return len(schedules)
