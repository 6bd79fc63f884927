"""Writing one MLflow run: what every step's run shares, each thing in as few requests as MLflow takes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from retrainer.formats.files import digest_of
from retrainer.services.address import without_credentials
from retrainer.services.processes import is_gone, is_here, this_process

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

STEP = "retrainer.step"
PROCESS = "retrainer.process"
# The registered version that came of a run.
VERSION = "retrainer.version"
FOREVER = float("inf")
DATASET_SHA256 = "dataset_sha256"
SETTINGS_SHA256 = "settings_sha256"
TRAINING_SHA256 = "training_sha256"
CODE_SHA256 = "code_sha256"
# What a run of the step decide came to: TRAIN, or the reason why nothing is trained.
DECISION, TRAIN = "retrainer.decision", "train"
# The steps of `make tune`, and of each training that it tries.
TUNE, TRIAL = "tune", "trial"

# step, milliseconds, figures
Epoch = tuple[int, int, Mapping[str, float]]

# MLflow takes no more in one request, or in one field.
_PARAMS_A_REQUEST = 100
_METRICS_A_REQUEST = 1000
_PARAM_CHARACTERS = 6000
_DIGEST_CHARACTERS = 36


def now() -> int:
    """Milliseconds, as MLflow counts."""
    return int(time.time() * 1000)


def create_run(
    mlflow: MlflowClient,
    experiment: str,
    step: str,
    began: int,
    tags: Mapping[str, str],
    parent: str = "",
    strategy: str = "",
    name: str = "",
) -> str:
    """A new run, below `parent` if there is one; returns its id.

    By default its name says the experiment, which is named after the recipe, the strategy where there is one,
    and the step: `digits-mlp scratch, train`.
    """
    nested = {"mlflow.parentRunId": parent} if parent else {}
    source = {"mlflow.source.name": f"retrainer {step}", "mlflow.source.type": "PROJECT"}
    tags = {STEP: step, PROCESS: this_process(), **source, **nested, **tags}
    if not name:
        name = f"{mlflow.get_experiment(experiment).name} {strategy}".rstrip() + f", {step}"
    run = mlflow.create_run(experiment, start_time=began, tags=tags, run_name=name)
    return str(run.info.run_id)


def strategy_of(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Empty where an own trainer's settings name none."""
    return str(sections.get("training", {}).get("strategy", ""))


def name_by_version(mlflow: MlflowClient, run_id: str, name: str, strategy: str, version: str) -> None:
    """Names a run of ours by the version that came of it; what Kubeflow opened keeps its name."""
    tags = mlflow.get_run(run_id).data.tags
    if PROCESS in tags and tags.get(VERSION) != version:
        told = f"{name} {strategy}".rstrip()
        mlflow.update_run(run_id, name=f"{told}, version {version}, {tags.get(STEP, '')}".rstrip(", "))
        log_tags(mlflow, run_id, {VERSION: version})


def find_run(mlflow: MlflowClient, experiment: str, tags: Mapping[str, str]) -> Run | None:
    """The newest finished run that has all these tags."""
    conditions = [f"tags.`{name}` = '{value}'" for name, value in tags.items()]
    query = " AND ".join([*conditions, "attributes.status = 'FINISHED'"])
    found = mlflow.search_runs([experiment], query, max_results=1, order_by=["attributes.start_time DESC"])
    return next(iter(found), None)


def log_settings(mlflow: MlflowClient, run_id: str, sections: Mapping[str, Mapping[str, Any]]) -> None:
    """Every setting as the parameter `section.key`, and one digest of them all as a tag."""
    from mlflow.entities import Param

    params = [
        Param(f"{section}.{key}", param_text(value))
        for section, values in sections.items()
        for key, value in values.items()
    ]
    for batch in _batches(params, _PARAMS_A_REQUEST):
        mlflow.log_batch(run_id, params=batch)
    log_tags(mlflow, run_id, {SETTINGS_SHA256: digest_of(sections)})


def param_text(value: Any) -> str:
    """A setting as a run's parameter says it."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return without_credentials(text)[:_PARAM_CHARACTERS]


def log_tags(mlflow: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    mlflow.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def log_epochs(mlflow: MlflowClient, run_id: str, epochs: Iterable[Epoch]) -> None:
    from mlflow.entities import Metric

    metrics = [
        Metric(name, float(value), timestamp, step)
        for step, timestamp, figures in epochs
        for name, value in figures.items()
    ]
    for batch in _batches(metrics, _METRICS_A_REQUEST):
        mlflow.log_batch(run_id, metrics=batch)


def _batches(items: list[Any], size: int) -> Iterable[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def log_dataset(mlflow: MlflowClient, run_id: str, sha256: str, manifest: Mapping[str, Any]) -> None:
    """Names the dataset by its content: MLflow has room for 36 characters, the tag holds them all."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name="dataset",
        digest=sha256[:_DIGEST_CHARACTERS],
        source_type="retrainer",
        source=json.dumps({"content_sha256": sha256}),
        profile=json.dumps({key: manifest[key] for key in ("rows", "columns") if key in manifest}),
    )
    mlflow.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    log_tags(mlflow, run_id, {DATASET_SHA256: sha256})


def close_orphans(mlflow: MlflowClient, experiment: str, silent_hours: float = FOREVER) -> list[Run]:
    """Marks as killed what a killed process left running; returns those runs.

    One that cannot be seen from here counts as killed when it wrote nothing for so many hours: no metric
    (those of the machine come every few seconds), or, where it has none, since the run began.
    """
    query = f"attributes.status = 'RUNNING' AND tags.`{PROCESS}` LIKE '%:%:%'"
    running = every(lambda token: mlflow.search_runs([experiment], query, page_token=token))
    closed = [run for run in running if _is_orphan(mlflow, run, silent_hours)]
    for run in closed:
        mlflow.set_terminated(run.info.run_id, "KILLED")
    return closed


def _is_orphan(mlflow: MlflowClient, run: Run, silent_hours: float) -> bool:
    process = run.data.tags[PROCESS]
    if is_here(process):
        return is_gone(process)
    if hours_since(run.info.start_time) <= silent_hours:
        return False
    written = (
        metric for key in run.data.metrics for metric in mlflow.get_metric_history(run.info.run_id, key)
    )
    return not any(hours_since(metric.timestamp) <= silent_hours for metric in written)


def hours_since(milliseconds: int) -> float:
    return (now() - milliseconds) / 3_600_000


def every(search: Callable[[str | None], Any]) -> list[Any]:
    """All that a search of MLflow's finds; `search` gets the token of a page."""
    page = search(None)
    found = list(page)
    while page.token:
        page = search(page.token)
        found += page
    return found
