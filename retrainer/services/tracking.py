"""MLflow's runs: one for each training, and below it one for each evaluation.

The model never depends on them: a run and a model find each other by the tag `model_sha256`, and a model that
came from a cache gets its run again from its own history.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from retrainer.cost import TRAIN_ROWS, Usage
from retrainer.findings import data_tags
from retrainer.formats.files import MANIFEST, digest_of
from retrainer.formats.model_files import DESCRIPTION, HISTORY, SETTINGS
from retrainer.formats.profile import FILE as PROFILE
from retrainer.formats.report import CARD, HTML, METRICS
from retrainer.messages import logger
from retrainer.services import lineage, runs
from retrainer.services.address import tracking_uri, without_credentials
from retrainer.services.connection import client, experiment_id, explained
from retrainer.services.database import ensure_database
from retrainer.services.meter import Meter
from retrainer.services.readers import MODEL_SHA256
from retrainer.services.rest import check_reachable

if TYPE_CHECKING:
    from mlflow import MlflowClient

RESTORED = "restored"
REPORT_SHA256 = "report_sha256"

# Short enough that a run of ten seconds shows a curve; the mean of two samples is logged.
_SYSTEM_SAMPLE_SECONDS = 1.0
_SYSTEM_SAMPLES = 2
_LEAVE_SECONDS = 60.0
# What is lost of the cost of a training that is killed, at most.
_COST_SECONDS = 5.0
_REASON_CHARACTERS = 300


class TrainRun:
    """The run of one training, written by a thread of its own so that training waits for nothing.

    `with TrainRun(sections, dataset) as run:` … `run.epoch(n, figures)` … `run.finish(model_sha256)`.
    What the `meter` reads is written every few seconds as the metrics `cost.…`, so that a training that is
    killed is counted too.

    Raises UserError at the start when the tracking server does not answer; later failures are one line
    on the terminal.
    """

    def __init__(
        self, sections: Mapping[str, Mapping[str, Any]], dataset: Path, meter: Meter | None = None
    ) -> None:
        self.run_id: str | None = None
        self._meter = meter or Meter()
        self._spent_before = Usage()
        self._sections = sections
        self._dataset = dataset
        self._began = runs.now()
        self._events: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._worker = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        check_reachable()
        ensure_database()
        self._worker.start()
        return self

    def epoch(self, step: int, metrics: Mapping[str, float]) -> None:
        """Figures of one epoch. Returns at once."""
        self._events.put(("epoch", (step, runs.now(), dict(metrics))))

    def finish(self, model_sha256: str, **tags: str) -> None:
        """Ties the run to the model that it made."""
        self._events.put(("tags", {MODEL_SHA256: model_sha256, **tags}))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = "FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED"
        self._events.put(("end", status))
        self._worker.join(_LEAVE_SECONDS)
        if self._worker.is_alive():
            self._error = TimeoutError(f"not written after {_LEAVE_SECONDS:.0f} s")
        if self._error is not None:
            reason = without_credentials(" ".join(str(self._error).split()))[:_REASON_CHARACTERS]
            logger("train").warning("MLflow's run is incomplete (%s); the model is not affected", reason)

    def _work(self) -> None:
        try:
            mlflow = client()
            self.run_id = self._open(mlflow)
            monitor = _system_monitor(self.run_id)
            try:
                status = self._follow(mlflow, self.run_id)
                self._log_cost(mlflow, self.run_id)
            finally:
                if monitor is not None:
                    _end(monitor)
            # A run that Kubeflow opened is Kubeflow's to close.
            if not os.environ.get("MLFLOW_RUN_ID"):
                mlflow.set_terminated(self.run_id, status)
        except Exception as error:
            self._error = error

    def _open(self, mlflow: MlflowClient) -> str:
        experiment = experiment_id(mlflow)
        runs.close_orphans(mlflow, experiment)
        run_id = os.environ.get("MLFLOW_RUN_ID")
        if run_id:  # an earlier try of this pod may have written into it
            self._spent_before = Usage.of_metrics(mlflow.get_run(run_id).data.metrics) or Usage()
        run_id = run_id or runs.create_run(mlflow, experiment, "train", self._began, {})
        runs.log_tags(mlflow, run_id, {runs.STEP: "train", **lineage.of_process()})
        runs.log_settings(mlflow, run_id, self._sections)
        manifest = _read(self._dataset / MANIFEST)
        runs.log_dataset(mlflow, run_id, manifest["content_sha256"], manifest)
        rows = float(manifest.get("rows", {}).get("train", 0))
        runs.log_epochs(mlflow, run_id, [(0, runs.now(), {TRAIN_ROWS: rows})])
        return run_id

    def _log_cost(self, mlflow: MlflowClient, run_id: str) -> None:
        # One step for all: of several steps MLflow takes the highest for the newest, which after a restart of
        # the pod would be an old one.
        usage = self._spent_before + self._meter.read()
        runs.log_epochs(mlflow, run_id, [(0, runs.now(), usage.metrics())])

    def _follow(self, mlflow: MlflowClient, run_id: str) -> str:
        """Writes events as they come, those that gathered meanwhile in one request, and the cost at times.

        Returns the status.
        """
        due = 0.0
        while True:
            if time.monotonic() >= due:
                with suppress(Exception):  # a server that is away for a while: the next one says it all
                    self._log_cost(mlflow, run_id)
                due = time.monotonic() + _COST_SECONDS
            events = []
            with suppress(queue.Empty):
                events.append(self._events.get(timeout=max(0.0, due - time.monotonic())))
            while not self._events.empty():
                events.append(self._events.get())
            runs.log_epochs(mlflow, run_id, [value for kind, value in events if kind == "epoch"])
            for kind, value in events:
                if kind == "tags":
                    runs.log_tags(mlflow, run_id, value)
                if kind == "end":
                    return str(value)


def _system_monitor(run_id: str) -> Any:
    """MLflow's own sampling of processor, memory, disk, network and GPU, already started."""
    if os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() not in ("1", "true"):
        return None
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(
        run_id, _SYSTEM_SAMPLE_SECONDS, _SYSTEM_SAMPLES, tracking_uri=tracking_uri()
    )
    monitor.start()
    return monitor


def _end(monitor: Any) -> None:
    """Ends the sampling with one more: MLflow drops those since its last line, all that a short run has."""
    monitor.finish()
    monitor.collect_metrics()
    monitor.publish_metrics(monitor.aggregate_metrics())
    monitor.mlflow_logger.flush()


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def train_run(mlflow: MlflowClient, model: Path) -> str:
    """The run that made the model directory; when the server has none, one made from the model's history."""
    experiment = experiment_id(mlflow)
    tags = {MODEL_SHA256: _read(model / MANIFEST)["model_sha256"], runs.STEP: "train"}
    found = runs.find_run(mlflow, experiment, tags)
    if found is not None:
        return str(found.info.run_id)
    began = runs.now()
    run_id = runs.create_run(mlflow, experiment, "train", began, {**tags, RESTORED: "true"})
    runs.log_settings(mlflow, run_id, _read(model / SETTINGS))
    runs.log_dataset(mlflow, run_id, _read(model / DESCRIPTION)["dataset_sha256"], {})
    history = json.loads((model / HISTORY).read_text(encoding="utf-8"))
    epochs = [(number, began, _figures(epoch)) for number, epoch in enumerate(history, start=1)]
    runs.log_epochs(mlflow, run_id, epochs)
    mlflow.set_terminated(run_id, "FINISHED")
    return run_id


def trained_by(mlflow: MlflowClient, run_id: str) -> dict[str, str]:
    """The code and the image that made the model, as its training's run says; empty when it says nothing."""
    tags = mlflow.get_run(run_id).data.tags
    return {name: tags[name] for name in lineage.CODE if name in tags}


def _figures(epoch: Mapping[str, Any]) -> dict[str, float]:
    numbers = {name: value for name, value in epoch.items() if isinstance(value, int | float)}
    return {name: value for name, value in numbers.items() if not isinstance(value, bool)}


def log_evaluation(report: Path, model: Path) -> str:
    """The id of this report's run, below the run that made the model; made when the server has none.

    A Kubeflow run has one of its own, also when an earlier one came to the very same report.
    """
    mlflow = client()
    experiment = experiment_id(mlflow)
    told = lineage.of_process()
    tags = {
        MODEL_SHA256: _read(model / MANIFEST)["model_sha256"],
        REPORT_SHA256: digest_of(_read(report / MANIFEST)["files"]),
        runs.STEP: "evaluate",
        **{name: told[name] for name in (lineage.KFP_RUN_ID,) if name in told},
    }
    found = runs.find_run(mlflow, experiment, tags)
    if found is not None:
        return str(found.info.run_id)
    parent = train_run(mlflow, model)
    began = runs.now()
    run_id = runs.create_run(mlflow, experiment, "evaluate", began, {**tags, **told}, parent)
    figures = _read(report / METRICS)
    runs.log_epochs(mlflow, run_id, [(0, began, _estimates(figures))])
    verdict = {"verdict": figures["gate"]["verdict"]}
    runs.log_tags(mlflow, run_id, verdict | data_tags(figures.get("data", {})))
    for name in (HTML, METRICS, CARD, PROFILE):
        if (report / name).is_file():  # a report of an older version lacks some
            mlflow.log_artifact(run_id, str(report / name))
    mlflow.set_terminated(run_id, "FINISHED")
    return run_id


def log_decision(decision: Mapping[str, Any], file: Path) -> str:
    """The run of one decision whether to train: what was decided and why as tags, its numbers as metrics.

    Returns its id. The tag DECISION is `train`, or the reason why nothing is trained.
    """
    mlflow = client()
    began = runs.now()
    stops = decision["choice"] == "stop"
    tags = {
        runs.DECISION: decision["reason"] if stops else runs.TRAIN,
        "retrainer.reason": decision["reason"],
        "retrainer.policy": decision["policy"],
        "mlflow.note.content": decision["why"],
        runs.DATASET_SHA256: decision["dataset_sha256"],
        **lineage.of_process(),
    }
    run_id = runs.create_run(mlflow, experiment_id(mlflow), "decide", began, tags)
    numbers = {f"rows.{name}": count for name, count in decision["rows"].items()}
    for name, test in decision["tests"].items():
        numbers |= {f"{name}.p_value": test["p_value"], f"{name}.adjusted": test["adjusted"]}
    runs.log_epochs(mlflow, run_id, [(0, began, numbers)])
    mlflow.log_artifact(run_id, str(file))
    mlflow.set_terminated(run_id, "FINISHED")
    return run_id


def fetch_artifact(run_id: str, name: str, into: Path) -> Path | None:
    """A file that a run keeps, here; None when there is no such run, or no such file of it."""
    from mlflow.exceptions import MlflowException

    mlflow = client()
    with explained():
        try:
            if name not in {found.path for found in mlflow.list_artifacts(run_id)}:
                return None
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return Path(mlflow.download_artifacts(run_id, name, str(into)))


def _estimates(figures: Mapping[str, Any], path: str = "") -> dict[str, float]:
    """Every {"value": …, "low": …, "high": …} of the report by its path, as in `metrics.accuracy.low`."""
    found: dict[str, float] = {}
    for name, value in figures.items():
        here = f"{path}.{name}" if path else name
        if isinstance(value, Mapping) and isinstance(value.get("value"), int | float):
            bounds = {key: value[key] for key in ("low", "high") if isinstance(value.get(key), int | float)}
            found |= {here: value["value"], **{f"{here}.{key}": bound for key, bound in bounds.items()}}
        elif isinstance(value, Mapping):
            found |= _estimates(value, here)
    return found
