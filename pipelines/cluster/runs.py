"""What runs on the cluster: a run followed to its end, and the list of runs and schedules."""

from __future__ import annotations

import math
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from components.steps import STEPS
from pipelines.cluster.connection import Connection, Unanswered, connect
from pipelines.cluster.cron import parse_cron
from pipelines.cluster.logs import last_words
from pipelines.prediction import TASK
from retrainer.errors import ServiceError, UserError
from retrainer.resolve import settle
from retrainer.settings import Cluster, Registry

POLL_SECONDS = 5.0
# An API server that is being upgraded is away for minutes; the run goes on meanwhile.
PATIENCE_SECONDS = 600.0
_ENDED = {"SUCCEEDED": 0, "SKIPPED": 0, "FAILED": 1, "CANCELED": 1}
_SHOWN_RUNS = 20
# What is told of, in this order: a run has the steps, or this one task.
_OURS = (*STEPS, TASK)
# The API's word for "not yet".
_NEVER = 1970


def follow(connection: Connection, run_id: str, poll_seconds: float | None = None) -> int:
    """Prints each step's changes of state until the run ends. Returns 0 when it succeeded, 1 when it failed.

    Ctrl-C ends the following and leaves the run. Raises UserError when the API stays away too long, or no
    longer accepts us.
    """
    states: dict[str, str] = {}
    # Every answer has its limit, the following has none.
    connection.runs.api_client.until = math.inf
    try:
        while True:
            run = _patiently(connection, run_id)
            _tell_changes(run, states)
            if run.state in _ENDED:
                return _tell_end(connection, run)
            time.sleep(POLL_SECONDS if poll_seconds is None else poll_seconds)
    except KeyboardInterrupt:
        print(f"\nno longer followed; the run goes on: {connection.link(run_id)}", file=sys.stderr)
        return 130
    except UserError as error:
        raise ServiceError(f"{error}; the run {run_id} goes on") from None


def _patiently(connection: Connection, run_id: str) -> Any:
    """The run, though the API be away for a while."""
    away_since = 0.0
    while True:
        try:
            return connection.runs.run_service_get_run(run_id)
        except Unanswered as error:
            now = time.monotonic()
            if not away_since:
                away_since = now
                print(f"{error}; the run goes on: asking again", file=sys.stderr, flush=True)
            if now - away_since > PATIENCE_SECONDS:
                raise
            time.sleep(POLL_SECONDS)


def tasks_of(run: Any) -> dict[str, Any]:
    """Our tasks among what Kubeflow lists (it adds a driver and a pod for each), by name."""
    details = (run.run_details and run.run_details.task_details) or ()
    return {task.display_name: task for task in details if task.display_name in _OURS}


def _tell_changes(run: Any, states: dict[str, str]) -> None:
    for step, task in sorted(tasks_of(run).items(), key=lambda item: _OURS.index(item[0])):
        if task.state and states.get(step) != task.state:
            states[step] = task.state
            print(f"── {step}: {task.state.lower()}", flush=True)


def _tell_end(connection: Connection, run: Any) -> int:
    status = _ENDED[run.state]
    if status == 0:
        print(f"run {run.run_id} succeeded in {_length(run)}")
        _tell_unnotified(run)
        return 0
    print(f"run {run.run_id} {run.state.lower()} after {_length(run)}", file=sys.stderr)
    if run.error and run.error.message:
        print(f"  {run.error.message}", file=sys.stderr)
    print(f"  the steps' logs: {connection.link(run.run_id)}", file=sys.stderr)
    failed = [step for step, task in tasks_of(run).items() if task.state == "FAILED"]
    for step in failed:
        for line in last_words(connection, run, step):
            print(f"  {line}", file=sys.stderr)
    if failed and failed[0] in STEPS:
        print(f"  again on this machine: make replay RUN={run.run_id} STEP={failed[0]}", file=sys.stderr)
    return status


def _tell_unnotified(run: Any) -> None:
    """A run does not fail by its exit task, so that one's failure is easily overlooked."""
    for task in (run.run_details and run.run_details.task_details) or ():
        if task.display_name == "notify" and task.state == "FAILED":
            print("  its exit task notify failed: nobody was told; its log says why", file=sys.stderr)


def show_runs(recipe: str | None, overrides: list[str], root: Path = Path()) -> int:
    """`make runs`: the experiment's latest runs, and its schedules with their next moment."""
    connection = connect()
    name = experiment_name(recipe, overrides, root)
    experiment = connection.experiment_id(name)
    if not experiment:
        print(f"experiment '{name}' has no runs yet")
        return 0
    runs = connection.find_runs(experiment, most=_SHOWN_RUNS)
    print(f"experiment '{name}', its latest runs (times in UTC):")
    _table([("run", "name", "state", "started", "took"), *(_row(run) for run in runs)])
    schedules = connection.find_schedules(experiment)
    if schedules:
        print("schedules:")
        _table([("name", "cron", "state", "next", "id"), *(_schedule_row(s) for s in schedules)])
    else:
        print("no schedule: make schedule CRON='0 0 3 * * *'")
    return 0


def experiment_name(recipe: str | None, overrides: list[str], root: Path) -> str:
    _, sections = settle(recipe, overrides, root)
    cluster, registry = sections["cluster"], sections["registry"]
    assert isinstance(cluster, Cluster) and isinstance(registry, Registry)
    return cluster.experiment or cluster.model_prefix + registry.name


def _row(run: Any) -> tuple[str, ...]:
    began = _began(run)
    started = f"{began:%Y-%m-%d %H:%M:%S}" if began else ""
    return (str(run.run_id), run.display_name or "", (run.state or "").lower(), started, _length(run))


def _began(run: Any) -> datetime | None:
    """When the run's first pod did, else when the run was made."""
    running = (s.update_time for s in run.state_history or () if s.state == "RUNNING" and s.update_time)
    return next(running, None) or run.created_at


def _length(run: Any) -> str:
    began, ended = _began(run), run.finished_at
    if began is None:
        return ""
    if ended is None or ended.year == _NEVER:
        ended = datetime.now(UTC)
    return str(timedelta(seconds=max(0, round((ended - began).total_seconds()))))


def _schedule_row(schedule: Any) -> tuple[str, ...]:
    trigger = schedule.trigger and schedule.trigger.cron_schedule
    cron = (trigger and trigger.cron) or "not by cron"
    coming = "" if schedule.status == "DISABLED" else _next(cron)
    return (
        schedule.display_name or "",
        cron,
        (schedule.status or "").lower(),
        coming,
        schedule.recurring_run_id,
    )


def _next(cron: str) -> str:
    """The next moment of a schedule; empty for one that was made elsewhere and that we do not read."""
    try:
        coming = parse_cron(cron).after(datetime.now(UTC))
    except UserError:
        return ""
    return f"{coming:%Y-%m-%d %H:%M:%S}" if coming else ""


def _table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
