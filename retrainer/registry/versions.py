"""A model's version in the registry: found again by its digest, or made; verified before anyone uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from retrainer.errors import ModelError, UserError
from retrainer.formats.model_files import read_model
from retrainer.formats.network import task_of
from retrainer.registry.bundle import save_bundle
from retrainer.registry.serving_check import check_serving
from retrainer.registry.unaltered import BUNDLE_SHA256, SIGNED, bundle_digest
from retrainer.services import lookup, processes, runs
from retrainer.services.address import tracking_uri
from retrainer.services.connection import environment, experiment_id
from retrainer.services.readers import (
    MODEL_SHA256,
    PASSED,
    SERVED_DIFFERENCE,
    VERIFICATION,
    RegisteredVersion,
)
from retrainer.services.scratch import scratch_directory

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel


@dataclass(frozen=True)
class Source:
    """What a version is made from: the model directory, evaluate's sample, the version's tags.

    `key` is the private key to sign with, as PEM; None when versions are not signed. It is kept out of repr.
    """

    model: Path
    sample: pa.Table = field(repr=False)
    tags: Mapping[str, str]
    key: bytes | None = field(repr=False, default=None)


def verified_version(mlflow: MlflowClient, name: str, source: Source) -> RegisteredVersion:
    """The one usable version of `name` with this model, made if there is none; it carries the source's tags.

    Must run under the name's lock. Raises UserError, and tags the version `verification: failed`, when it
    does not answer as the sample says.
    """
    sha256 = source.tags[MODEL_SHA256]
    version = _usable_or_unverified(mlflow, name, sha256)
    if version is None:
        _forget_unregistered(mlflow, sha256)
        version = _new_version(mlflow, name, source)
    tags = dict(source.tags)
    if not version.usable:
        try:
            inputs = task_of(source.model, read_model(source.model)).input_columns
            tags[SERVED_DIFFERENCE] = f"{check_serving(version, source.sample, inputs):.1e}"
        except UserError:
            mlflow.set_model_version_tag(name, version.version, VERIFICATION, "failed")
            raise
    for tag, value in {**tags, VERIFICATION: PASSED}.items():
        if version.tags.get(tag) != value:
            mlflow.set_model_version_tag(name, version.version, tag, value)
    found = lookup.by_version(name, version.version)
    assert found is not None and found.usable
    return found


def _usable_or_unverified(mlflow: MlflowClient, name: str, model_sha256: str) -> RegisteredVersion | None:
    """What an earlier run left: the first usable version, else the first unverified one. All others that
    never served are deleted.

    Raises UserError when the champion is among them: somebody edited what says that it serves.
    """
    found = lookup.versions_of(name, model_sha256)
    champion = lookup.state(name)[lookup.CHAMPION]
    if any(v.version == champion and not v.usable for v in found):
        raise ModelError(
            f"models:/{name}/{champion} is champion, and its tag '{VERIFICATION}' or its status was changed"
            " since it was proven to serve; run `make rollback` or `make promote VERSION=…`, then this again"
        )
    whole = [v for v in found if v.usable] or [v for v in found if _unproven(v)]
    kept = whole[0] if whole else None
    for version in found:
        if version is not kept and not version.usable:
            _delete(mlflow, version)
    return kept


def _made_before(made: RegisteredVersion) -> RegisteredVersion | None:
    """The version of the same model that another machine made meanwhile: the lock holds on one alone.

    Of two the first stays. Numbers rise, and whoever was given the higher one can see the lower.
    """
    found = lookup.versions_of(made.name, made.model_sha256)
    earlier = [v for v in found if int(v.version) < int(made.version)]
    return next((v for v in earlier if v.usable or _unproven(v)), None)


def _unproven(version: RegisteredVersion) -> bool:
    """Whole, and nobody has seen it serve or fail to."""
    return version.status == "READY" and VERIFICATION not in version.tags


def _delete(mlflow: MlflowClient, version: RegisteredVersion) -> None:
    from mlflow.exceptions import MlflowException

    try:
        mlflow.delete_model_version(version.name, version.version)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # another machine was quicker
            raise


def _forget_unregistered(mlflow: MlflowClient, model_sha256: str) -> None:
    """Removes logged models of this digest that never became a version: a killed run left them.

    What a process still works on, on another machine perhaps, is none of them.
    """
    left = mlflow.search_logged_models([experiment_id(mlflow)], f"tags.{MODEL_SHA256} = '{model_sha256}'")
    for logged in left:
        if not _in_work(logged) and not mlflow.search_model_versions(f"source_path = '{logged.model_uri}'"):
            mlflow.delete_logged_model(logged.model_id)


def _in_work(logged: LoggedModel) -> bool:
    """Whether another process may be about to make a version of it. What pods and other machines left in the
    middle of that is ended by `make reap` alone: it would be a guess here.
    """
    made_by = logged.tags.get(runs.PROCESS, "")
    return made_by not in ("", processes.this_process()) and not processes.is_gone(made_by)


def _new_version(mlflow: MlflowClient, name: str, source: Source) -> RegisteredVersion:
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    run_id = source.tags["train_run_id"]
    sha = {MODEL_SHA256: source.tags[MODEL_SHA256], runs.PROCESS: processes.this_process()}
    logged = mlflow.create_logged_model(
        experiment_id(mlflow), name=name, source_run_id=run_id, tags=sha, model_type="classifier"
    )
    with scratch_directory() as scratch:
        bundle = scratch / "bundle"
        save_bundle(source.model, source.sample, bundle, logged.model_id, run_id, source.key)
        sealed = {BUNDLE_SHA256: bundle_digest(bundle)} | ({SIGNED: "true"} if source.key else {})
        mlflow.log_model_artifacts(logged.model_id, str(bundle))
    mlflow.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    mlflow.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    _ensure_registered_model(mlflow, name)
    # The tags come with the version: whatever happens next, it is found again by its digest. MLflow looks the
    # model up at its own default address, for which it would make a directory `a%20b` beside `a b`.
    with environment({"MLFLOW_TRACKING_URI": tracking_uri()}):
        made = mlflow.create_model_version(
            name, logged.model_uri, run_id=run_id, tags={**source.tags, **sealed}, model_id=logged.model_id
        )
    found = lookup.by_version(name, str(made.version))
    assert found is not None
    before = _made_before(found)
    if before is not None:
        _delete(mlflow, found)
        mlflow.delete_logged_model(logged.model_id)
    return before or found


def _ensure_registered_model(mlflow: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    if mlflow.search_registered_models(f"name = '{name}'"):
        return
    try:
        mlflow.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another machine was quicker
            raise
