"""Registration: a judged model becomes a version, proves that it serves, and only then may an alias move.

Whatever is interrupted, the next run finishes: a model is found again by its digest, and there is never a
second usable version of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from retrainer.errors import ModelError, SettingError
from retrainer.formats.files import digest_of, whole_directory, write_json
from retrainer.formats.model_files import SETTINGS, read_model, training_digest
from retrainer.formats.report import SAMPLE, read_report
from retrainer.messages import logger
from retrainer.registry import signing
from retrainer.registry.anchor import refuse_if_anchor_moved, remember_anchor
from retrainer.registry.history import move_champion, new_move, settle
from retrainer.registry.judgement_tags import describe, judgement_tags
from retrainer.registry.lock import registry_lock
from retrainer.registry.mirror import refuse_untold, second_registry, told
from retrainer.registry.reap import reap_left
from retrainer.registry.serving_check import serving_check_begun
from retrainer.registry.standing import decision_on, tell_standing
from retrainer.registry.versions import Source, verified_version
from retrainer.services import keys, lineage, lookup, runs, tracking
from retrainer.services.address import tracking_uri, without_credentials
from retrainer.services.connection import client, explained
from retrainer.services.lookup import CHALLENGER, CHAMPION
from retrainer.services.readers import MODEL_SHA256, SERVED_DIFFERENCE, RegisteredVersion
from retrainer.services.runs import DATASET_SHA256, SETTINGS_SHA256, TRAINING_SHA256
from retrainer.settings import Registry

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOG = logger("register")

FORMAT_VERSION = 1
FILE = "registration.json"


def register_model(model: Path, report: Path, out: Path, registry: Registry) -> dict[str, Any]:
    """Registers the model directory with the alias that the gate gave it; returns `registration.json`.

    `out` becomes a directory with that file. Raises UserError, before any alias moves, when the report is of
    another model, when the champion is no longer the one that was judged, and when the registered version
    does not answer as evaluate stored it. Where a second registry could not be told, `registration.json` says
    so and ServiceError is raised: in MLflow all is done.
    """
    about = read_model(model)
    figures = read_report(report)
    gate = figures["gate"]
    if figures["model_sha256"] != about["model_sha256"]:
        raise ModelError(f"{report} judges another model than {model}; run evaluate again")
    key, second = _signing_key(registry), second_registry(registry)
    sample = pq.read_table(report / SAMPLE)
    mlflow = client()
    # The lock first: of many that wait for it, only the one that works needs the memory.
    with explained(), registry_lock(registry.name), serving_check_begun(about["family"]):
        for line in reap_left(mlflow, registry.name, spared=about["model_sha256"]):
            _LOG.info("left by a killed process: %s", line)
        evaluation = tracking.log_evaluation(report, model)
        training = tracking.train_run(mlflow, model)
        tags = _tags(model, about, gate) | {"train_run_id": training, "evaluation_run_id": evaluation}
        # The code that trained it; a model from a cache goes by the code that would train it so again.
        tags |= tracking.trained_by(mlflow, training) | judgement_tags(figures)
        before = lookup.state(registry.name)
        version = _placed(mlflow, registry.name, Source(model, sample, tags, key), gate)
        describe(mlflow, version, report)
        for run_id in (training, evaluation):
            runs.name_by_version(mlflow, run_id, registry.name, _strategy(model), version.version)
        tell_standing(mlflow, registry.name, {version.version, *before.values()})
        registration = _registration(version, gate, tags) | told(second, registry, version.version)
    with whole_directory(out) as aside:
        write_json(aside / FILE, registration)
    refuse_untold(registration)
    return registration


def _strategy(model: Path) -> str:
    return runs.strategy_of(json.loads((model / SETTINGS).read_text(encoding="utf-8")))


def _signing_key(registry: Registry) -> bytes | None:
    """The private key when models are to be signed. Raises UserError when there is none that can sign."""
    if not registry.sign:
        return None
    key = keys.signing_key()
    if key is None:
        raise SettingError(
            f"registry.sign is true and {keys.SIGNING} is not set: name a PEM private key by it"
        )
    signing.public_of(key)
    return key


def _placed(mlflow: MlflowClient, name: str, source: Source, gate: Mapping[str, Any]) -> RegisteredVersion:
    """The model's version, its alias where the gate wants it. Must run under the name's lock."""
    settle(mlflow, name)
    champion = lookup.by_alias(name, CHAMPION)
    if champion is not None and champion.usable and champion.model_sha256 == source.tags[MODEL_SHA256]:
        if gate["verdict"] != CHAMPION:  # somebody made it champion since
            refuse_if_moved(name, gate["champion"])
        return champion
    refuse_if_moved(name, gate["champion"])
    refuse_if_decided(name, source.tags[MODEL_SHA256], gate)
    version = verified_version(mlflow, name, source)
    _move_alias(mlflow, version, gate)
    return version


def refuse_if_decided(name: str, model_sha256: str, gate: Mapping[str, Any]) -> None:
    """Raises UserError when somebody took the alias from this very model and the gate did not know of it."""
    if gate["verdict"] == CHAMPION and (decision := decision_on(name, model_sha256)) and decision.taken:
        raise ModelError(f"{decision.why}; that was not known when this model was judged: run evaluate again")


def refuse_if_moved(name: str, judged: dict[str, Any] | None) -> None:
    """Raises UserError unless the champion is still the one that evaluate compared with."""
    if not lookup.champion_is(name, judged):
        then = f"version {judged['version']}" if judged else "none"
        now = lookup.state(name)[CHAMPION]
        raise ModelError(
            f"the champion of '{name}' changed since evaluate judged (then {then}, now"
            f" {f'version {now}' if now else 'none'}); run evaluate again"
        )


def _move_alias(mlflow: MlflowClient, version: RegisteredVersion, gate: Mapping[str, Any]) -> None:
    """Points the alias that the gate gave at the version."""
    name, verdict = version.name, gate["verdict"]
    if verdict != CHAMPION:
        mlflow.set_registered_model_alias(name, CHALLENGER, version.version)
        return
    # The checks took seconds, and the lock holds on this machine only.
    if lookup.state(name)[CHAMPION] == version.version:
        return
    refuse_if_moved(name, gate["champion"])
    anchor = gate.get("anchor")  # a report of an older version has none
    refuse_if_anchor_moved(name, anchor)
    before = str(gate["champion"]["version"]) if gate["champion"] else None
    why = "; ".join(gate["reasons"])
    if anchor and anchor["raises"]:
        remember_anchor(mlflow, name, "register", version.version, why)
    move_champion(mlflow, name, new_move(name, "register", before, version.version, why, verdict))


def _tags(model: Path, about: Mapping[str, Any], gate: Mapping[str, Any]) -> dict[str, str]:
    """The version's lineage."""
    settings = json.loads((model / SETTINGS).read_text(encoding="utf-8"))
    return {
        MODEL_SHA256: about["model_sha256"],
        DATASET_SHA256: about["dataset_sha256"],
        SETTINGS_SHA256: digest_of(settings),
        TRAINING_SHA256: training_digest(settings),
        "verdict": gate["verdict"],
        **lineage.of_model(model),
    }


def _registration(
    version: RegisteredVersion, gate: Mapping[str, Any], tags: Mapping[str, str]
) -> dict[str, Any]:
    champion = lookup.by_alias(version.name, CHAMPION)
    now = {"version": champion.version, "model_sha256": champion.model_sha256} if champion else None
    is_champion = champion is not None and champion.version == version.version
    return {
        "format_version": FORMAT_VERSION,
        "name": version.name,
        "version": version.version,
        "alias": CHAMPION if is_champion else CHALLENGER,
        "model_sha256": version.model_sha256,
        "verdict": gate["verdict"],
        "reasons": list(gate["reasons"]),
        "champion": now,
        "served_difference": version.tags.get(SERVED_DIFFERENCE),
        "train_run_id": tags["train_run_id"],
        "evaluation_run_id": tags["evaluation_run_id"],
        "tracking_uri": without_credentials(tracking_uri()),
    }
