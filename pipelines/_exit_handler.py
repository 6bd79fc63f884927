"""The exit task of a pipeline: Kubeflow runs it when the steps have ended, however that was.

It is told only that they failed, not which one nor why (in 2.17 the backend leaves the error empty), so it
asks MLflow and Argo's record of the run (retrainer/notify/cluster.py).
"""

# No `from __future__ import annotations` here: kfp reads the annotations themselves, not their text.
import functools
from collections.abc import Callable
from typing import Any

from kfp import dsl, kubernetes

from components.steps import STEPS
from pipelines import _pods
from retrainer.settings import Cluster

TASK = "notify"
WORKFLOW = "metadata.labels['workflows.argoproj.io/workflow']"
_SECONDS = 900

Pipeline = Callable[..., None]


def with_exit_task(
    recipe: str, settings: dict[str, dict[str, Any]], image: str, cluster: Cluster
) -> Callable[[Pipeline], Pipeline]:
    """Decorates the function of a pipeline: with `cluster.webhook_secret` an exit task guards its steps."""

    def decorate(pipeline: Pipeline) -> Pipeline:
        if not cluster.webhook_secret:
            return pipeline

        @functools.wraps(pipeline)
        def guarded(*arguments: Any) -> None:
            task = _notify(recipe, settings["registry"]["name"], image)(
                began=dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER
            )
            _describe(task, image, settings, cluster)
            with dsl.ExitHandler(task, name="steps"):
                pipeline(*arguments)

        return guarded

    return decorate


def _notify(recipe: str, model: str, image: str) -> Any:
    @dsl.container_component
    def notify(began: str, status: dsl.PipelineTaskFinalStatus) -> dsl.ContainerSpec:
        """Tells the webhook how the run ended."""
        about = ["--recipe", recipe, "--model", model, "--steps", ",".join(STEPS)]
        return dsl.ContainerSpec(
            image=image,
            command=["python", "-m", "retrainer", TASK],
            args=[*about, "--status", status, "--began", began],
        )

    return notify


def _describe(task: Any, image: str, settings: dict[str, dict[str, Any]], cluster: Cluster) -> None:
    """The keys are optional for Kubernetes: a pod that waits for a secret says less than the command does."""
    task.set_caching_options(False)
    ours = {"timeout_seconds": _SECONDS, "retries": min(cluster.retries, 1)}
    _pods.describe(task, TASK, image, settings, cluster.model_copy(update=ours))
    kubernetes.use_secret_as_env(
        task, cluster.webhook_secret, {key: key for key in _pods.WEBHOOK_KEYS}, optional=True
    )
    kubernetes.use_field_path_as_env(task, "RETRAINER_WORKFLOW", WORKFLOW)
