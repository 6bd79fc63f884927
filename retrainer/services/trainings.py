"""The trainings that MLflow knows of and what each used; MLflow is imported only where nothing else can ask.

Every attempt has a run of its own, whose metrics `cost.…` are written while it trains, so what was killed or
failed is counted too. A model's cost is that of its own run and of the attempts before it with the same data
and settings.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrainer.cost import Usage, priced
from retrainer.errors import UserError
from retrainer.messages import logger
from retrainer.services.address import is_server, sqlite_path, tracking_uri
from retrainer.services.connection import DEFAULT_EXPERIMENT
from retrainer.services.readers import MODEL_SHA256, SqliteReader, workspace
from retrainer.services.runs import DATASET_SHA256, SETTINGS_SHA256, STEP
from retrainer.services.runs_over_rest import FoundRun
from retrainer.settings import Rates

_ALL: Mapping[str, str] = {}
# Of a year of daily trainings, each tried twice.
_MOST = 1000


@dataclass(frozen=True)
class Effort:
    """What it took to come to a model, or to none so far: runs in order, of which the last made it."""

    runs: tuple[FoundRun, ...]

    @property
    def model_sha256(self) -> str:
        return self.runs[-1].tags.get(MODEL_SHA256, "")

    @property
    def usage(self) -> Usage:
        return total(self.runs)

    @property
    def unfinished(self) -> int:
        return sum(not run.tags.get(MODEL_SHA256) for run in self.runs)

    def priced(self, rates: Rates) -> dict[str, Any]:
        """The part `training_cost` of metrics.json."""
        return priced(self.usage, rates, len(self.runs), self.unfinished)


def total(runs: Iterable[FoundRun]) -> Usage:
    return sum((usage for run in runs if (usage := Usage.of_metrics(run.metrics))), Usage())


def measured_runs(experiment: str = "", tags: Mapping[str, str] = _ALL, most: int = _MOST) -> list[FoundRun]:
    """The newest runs of the step train that were measured and have these tags, oldest first.

    Of the experiment of that name, else of this process's own. Raises UserError when MLflow cannot be asked.
    """
    tags = {STEP: "train", **tags}
    uri = tracking_uri()
    path = sqlite_path(uri)
    if path is not None:
        found = _in_sqlite(SqliteReader(path), experiment, tags, most)
    elif is_server(uri) and not _needs_client():
        from retrainer.services import runs_over_rest

        found = runs_over_rest.search(uri, tags, experiment, most)
    else:
        found = _by_client(experiment, tags, most)
    return sorted((run for run in found if Usage.of_metrics(run.metrics)), key=lambda run: run.began)


def efforts(runs: Sequence[FoundRun]) -> list[Effort]:
    """The runs, oldest first, by what they were for: an attempt counts for the next run of the same data and
    settings that made a model. Efforts without a model so far come last."""
    done: list[Effort] = []
    waiting: dict[tuple[str, str], list[FoundRun]] = {}
    for run in runs:
        same = (run.tags.get(SETTINGS_SHA256, ""), run.tags.get(DATASET_SHA256, ""))
        waiting.setdefault(same, []).append(run)
        if run.tags.get(MODEL_SHA256):
            done.append(Effort(tuple(waiting.pop(same))))
    return [*done, *(Effort(tuple(left)) for left in waiting.values())]


def effort_of(model_sha256: str, runs: Sequence[FoundRun]) -> Effort | None:
    """All that was spent on this model, also where it was trained more than once; None where nothing is known
    of it."""
    own = [one for one in efforts(runs) if one.model_sha256 == model_sha256]
    return Effort(tuple(run for one in own for run in one.runs)) if own else None


def cost_of_model(model_sha256: str, rates: Rates) -> dict[str, Any] | None:
    """What it took to train the model; None where MLflow has no run that was measured: a model of an older
    version, or from a cache. A server that cannot be asked costs the figure, not the evaluation."""
    try:
        own = measured_runs(tags={MODEL_SHA256: model_sha256})
        same = {name: own[-1].tags.get(name, "") for name in (SETTINGS_SHA256, DATASET_SHA256)} if own else {}
        effort = effort_of(model_sha256, measured_runs(tags=same)) if own else None
    except UserError as error:
        logger("evaluate").warning("what the training cost is not known: %s", error)
        return None
    return effort.priced(rates) if effort else None


def experiment_named(name: str) -> str:
    """The experiment that the environment names for this process (empty), else `name`."""
    named = ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
    return "" if any(os.environ.get(variable) for variable in named) else name


def _needs_client() -> bool:
    from retrainer.services import rest

    return rest.needs_client()


def _in_sqlite(reader: SqliteReader, experiment: str, tags: Mapping[str, str], most: int) -> list[FoundRun]:
    number = "" if experiment else os.environ.get("MLFLOW_EXPERIMENT_ID", "")
    name = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
    chosen = "CAST(e.experiment_id AS TEXT) = ?" if number else "e.name = ? AND e.workspace = ?"
    tagged = " AND EXISTS (SELECT 1 FROM tags t WHERE t.run_uuid = r.run_uuid AND t.key = ? AND t.value = ?)"
    query = (
        "SELECT r.run_uuid, r.start_time FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id"
        f" WHERE r.lifecycle_stage = 'active' AND {chosen}{tagged * len(tags)}"
        f" ORDER BY r.start_time DESC LIMIT {most}"
    )

    def found(database: sqlite3.Connection) -> list[FoundRun]:
        key = (number,) if number else (name, workspace())
        pairs = [part for pair in tags.items() for part in pair]
        rows = database.execute(query, (*key, *pairs)).fetchall()
        return [
            FoundRun(
                run_id,
                _named(database, "tags", run_id),
                int(began or 0),
                _named(database, "latest_metrics", run_id),
                _named(database, "params", run_id),
            )
            for run_id, began in rows
        ]

    return reader.ask(found)


def _named(database: sqlite3.Connection, table: str, run_id: str) -> dict[str, Any]:
    query = f"SELECT key, value FROM {table} WHERE run_uuid = ?"
    return dict(database.execute(query, (run_id,)).fetchall())


def _by_client(experiment: str, tags: Mapping[str, str], most: int) -> list[FoundRun]:
    from retrainer.services.connection import client, experiment_id, explained

    mlflow = client()
    with explained():
        named = mlflow.get_experiment_by_name(experiment) if experiment else None
        if experiment and named is None:
            return []
        place = str(named.experiment_id) if named else experiment_id(mlflow)
        query = " AND ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        order = ["attributes.start_time DESC"]
        runs = mlflow.search_runs([place], query, max_results=most, order_by=order)
    return [
        FoundRun(run.info.run_id, run.data.tags, run.info.start_time, run.data.metrics, run.data.params)
        for run in runs
    ]


def params_of(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The sections as a run's parameters say them."""
    from retrainer.services.runs import param_text

    return {
        f"{section}.{key}": param_text(value)
        for section, values in sections.items()
        for key, value in values.items()
    }
