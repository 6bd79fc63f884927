"""MLflow's runs over REST, for what runs where MLflow is not installed.

Every call raises UserError when the server cannot be asked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from retrainer.errors import ServiceError
from retrainer.services import rest

_MOST = 100


@dataclass(frozen=True)
class FoundRun:
    """One run; `began` in milliseconds since 1970, `metrics` the last value of each."""

    run_id: str
    tags: Mapping[str, str]
    began: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)


def search(uri: str, tags: Mapping[str, str], name: str = "", most: int = _MOST) -> list[FoundRun]:
    """The newest runs that have all these tags, of the experiment `name` or this process's own; none without
    the experiment."""
    experiment = _experiment(uri, name)
    if experiment is None:
        return []
    query = {
        "experiment_ids": [experiment],
        "filter": " AND ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items()),
        "order_by": ["attributes.start_time DESC"],
        "max_results": most,
    }
    return [_found(run) for run in _post(uri, "runs/search", query).get("runs", ())]


def _found(run: Mapping[str, Any]) -> FoundRun:
    data = run.get("data", {})
    tags, params = (
        {one["key"]: one.get("value", "") for one in data.get(kind, ())} for kind in ("tags", "params")
    )
    metrics = {one["key"]: float(one["value"]) for one in data.get("metrics", ()) if "value" in one}
    info = run["info"]
    return FoundRun(info["run_id"], tags, int(info.get("start_time", 0)), metrics, params)


def _experiment(uri: str, name: str = "") -> str | None:
    """The id of the experiment of that name, else of the one that MLFLOW_EXPERIMENT_ID or
    MLFLOW_EXPERIMENT_NAME names."""
    if (given := os.environ.get("MLFLOW_EXPERIMENT_ID")) and not name:
        return given
    query = {"experiment_name": name or _name()}
    answer = _known(lambda: rest.ask(uri, "experiments/get-by-name", query))
    return str(answer["experiment"]["experiment_id"]) if answer else None


def _name() -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or "retrainer"


def create(uri: str, name: str, tags: Mapping[str, str], status: str) -> str:
    """Makes a run that has ended with `status`; returns its id. The experiment is made where it is absent."""
    experiment = _experiment(uri) or _post(uri, "experiments/create", {"name": _name()})["experiment_id"]
    body = {
        "experiment_id": experiment,
        "run_name": name,
        "start_time": _now(),
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
    }
    run_id = str(_post(uri, "runs/create", body)["run"]["info"]["run_id"])
    end(uri, run_id, status)
    return run_id


def set_tag(uri: str, run_id: str, key: str, value: str) -> None:
    _post(uri, "runs/set-tag", {"run_id": run_id, "key": key, "value": value})


def end(uri: str, run_id: str, status: str) -> None:
    _post(uri, "runs/update", {"run_id": run_id, "status": status, "end_time": _now()})


def _now() -> int:
    return int(time.time() * 1000)


def _post(uri: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return _known(lambda: rest.post(uri, path, body)) or {}


def _known(call: Any) -> Any:
    try:
        return call()
    except rest.Refused as error:
        raise ServiceError(f"MLflow does not take these credentials ({error})") from None
