"""What a version's properties say in Kubeflow's Model Registry, by the names that MLflow has for them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from retrainer.registry.judgement_tags import REASON
from retrainer.registry.standing import STANDING
from retrainer.registry.unaltered import BUNDLE_SHA256, SIGNED
from retrainer.services import lineage
from retrainer.services.kubeflow_registry import Thing
from retrainer.services.lookup import CHALLENGER, CHAMPION
from retrainer.services.readers import MODEL_SHA256, TEST_SHA256, RegisteredVersion
from retrainer.services.runs import DATASET_SHA256, SETTINGS_SHA256

if TYPE_CHECKING:
    from mlflow import MlflowClient

Properties = dict[str, dict[str, Any]]

LABELS = (CHAMPION, CHALLENGER)
GONE = "MLflow has no such version that was proven to serve"
_TAGS = (
    *("verdict", STANDING, REASON, "gate.metric", "gate.policy"),
    *(MODEL_SHA256, BUNDLE_SHA256, SIGNED, DATASET_SHA256, SETTINGS_SHA256, TEST_SHA256),
    *(*lineage.CODE, lineage.KFP_RUN_ID, lineage.SCHEDULED_TIME, "train_run_id", "evaluation_run_id"),
)
_METRICS = "metrics."


def text(value: str) -> dict[str, Any]:
    return {"metadataType": "MetadataStringValue", "string_value": value}


def number(value: float) -> dict[str, Any]:
    return {"metadataType": "MetadataDoubleValue", "double_value": value}


def as_label(name: str) -> Properties:
    """Kubeflow's pages show a property with an empty text as a label."""
    return {name: text("")}


def digest_in(shown: Thing) -> str:
    """The model_sha256 that a version there has; empty for one that somebody else made."""
    properties = shown.get("customProperties") or {}
    return str(properties.get(MODEL_SHA256, {}).get("string_value", ""))


def properties_of(version: RegisteredVersion) -> Properties:
    """From the version's tags: the verdict, what it was made from, and where MLflow has it."""
    told = {tag: text(version.tags[tag]) for tag in _TAGS if version.tags.get(tag)}
    return told | {"mlflow_uri": text(f"models:/{version.name}/{version.version}")}


def figures_of(mlflow: MlflowClient, version: RegisteredVersion) -> Properties:
    """The metrics of the run that evaluated it, with their intervals (`accuracy`, `accuracy.low`, …); none
    when that run is gone."""
    from mlflow.exceptions import MlflowException

    run_id = version.tags.get("evaluation_run_id")
    try:
        metrics = mlflow.get_run(run_id).data.metrics if run_id else {}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        metrics = {}
    named = {key.removeprefix(_METRICS): value for key, value in metrics.items() if key.startswith(_METRICS)}
    return {key: number(float(value)) for key, value in named.items() if math.isfinite(value)}
