"""MLflow's run of a training while it trains: settings, each epoch's figures, and what it costs."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from retrainer.cost import TRAIN_ROWS, Usage
from retrainer.formats.files import MANIFEST
from retrainer.messages import logger
from retrainer.services import lineage, runs
from retrainer.services.address import tracking_uri, without_credentials
from retrainer.services.connection import client, experiment_id
from retrainer.services.database import ensure_database
from retrainer.services.meter import Meter
from retrainer.services.readers import MODEL_SHA256
from retrainer.services.rest import check_reachable

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Short enough that a run of ten seconds shows a curve; the mean of two samples is logged.
_SYSTEM_SAMPLE_SECONDS = 1.0
_SYSTEM_SAMPLES = 2
_LEAVE_SECONDS = 60.0
# What is lost of the cost of a training that is killed, at most.
_COST_SECONDS = 5.0
_REASON_CHARACTERS = 300


@dataclass(frozen=True)
class Trial:
    """The run of a training that makes no model: one trial of `make tune`, below the tuning's own run."""

    parent: str
    name: str
    tags: Mapping[str, str] = field(default_factory=dict)


class TrainRun:
    """The run of one training, written by a thread of its own so that training waits for nothing.

    `with TrainRun(sections, dataset) as run:` … `run.epoch(n, figures)` … `run.finish(model_sha256)`.
    What the `meter` reads is written every few seconds as the metrics `cost.…`, so that a training that is
    killed is counted too.

    Raises UserError at the start when the tracking server does not answer; later failures are one line
    on the terminal.
    """

    def __init__(
        self,
        sections: Mapping[str, Mapping[str, Any]],
        dataset: Path,
        meter: Meter | None = None,
        trial: Trial | None = None,
    ) -> None:
        self.run_id: str | None = None
        self._trial = trial
        # A run that Kubeflow opened is Kubeflow's to close.
        self._given = "" if trial else os.environ.get("MLFLOW_RUN_ID", "")
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
        self.tag(**{MODEL_SHA256: model_sha256, **tags})

    def tag(self, **tags: str) -> None:
        self._events.put(("tags", tags))

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
            if not self._given:
                mlflow.set_terminated(self.run_id, status)
        except Exception as error:
            self._error = error

    def _open(self, mlflow: MlflowClient) -> str:
        experiment = experiment_id(mlflow)
        runs.close_orphans(mlflow, experiment)
        if self._given:  # an earlier try of this pod may have written into it
            self._spent_before = Usage.of_metrics(mlflow.get_run(self._given).data.metrics) or Usage()
        run_id = self._given or self._create(mlflow, experiment)
        step = runs.TRIAL if self._trial else runs.TRAIN
        runs.log_tags(mlflow, run_id, {runs.STEP: step, **lineage.of_process()})
        runs.log_settings(mlflow, run_id, self._sections)
        manifest = json.loads((self._dataset / MANIFEST).read_text(encoding="utf-8"))
        runs.log_dataset(mlflow, run_id, manifest["content_sha256"], manifest)
        rows = float(manifest.get("rows", {}).get("train", 0))
        runs.log_epochs(mlflow, run_id, [(0, runs.now(), {TRAIN_ROWS: rows})])
        return run_id

    def _create(self, mlflow: MlflowClient, experiment: str) -> str:
        if self._trial is None:
            strategy = runs.strategy_of(self._sections)
            return runs.create_run(mlflow, experiment, runs.TRAIN, self._began, {}, strategy=strategy)
        trial = self._trial
        about = (self._began, trial.tags, trial.parent)
        return runs.create_run(mlflow, experiment, runs.TRIAL, *about, name=trial.name)

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
