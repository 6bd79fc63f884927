"""The champion of a registered model, and the best one so far, fetched so that evaluation can score them
again on today's rows."""

from __future__ import annotations

import json
from pathlib import Path

from retrainer.errors import ModelError, UserError
from retrainer.formats.report import METRICS
from retrainer.gate.data_figures import DataFigures, figures_from
from retrainer.gate.evidence import Anchor, Champion
from retrainer.registry.anchor import anchor_of
from retrainer.registry.history import moved_by_another_tool
from retrainer.registry.unaltered import unaltered_model
from retrainer.services import keys, lookup, tracking
from retrainer.services.readers import RegisteredVersion
from retrainer.services.runs import DATASET_SHA256


def fetch_champion(name: str, into: Path) -> Champion | None:
    """The version that `name@champion` points at; None when there is none yet.

    `directory` is where the registry keeps it, when that is on this machine, else below `into`. What is known
    of its data lies with the run that judged it.
    Raises UserError when its files cannot be had, were altered, or something else registered it.
    """
    found = lookup.by_alias(name, lookup.CHAMPION)
    if found is None:
        return None
    if not found.model_sha256:
        raise ModelError(
            f"models:/{name}@{lookup.CHAMPION} (version {found.version}) was not registered by retrainer;"
            " remove that alias, or set registry.name to another name"
        )
    directory = unaltered_model(found, into / "champion", public_key=keys.verify_key())
    trained_on = found.tags.get(DATASET_SHA256, "")
    moved_from = moved_by_another_tool(name, found.version) or ""
    data = _data_of(found, into)
    return Champion(found.version, found.model_sha256, directory, trained_on, data, moved_from)


def _data_of(champion: RegisteredVersion, into: Path) -> DataFigures | None:
    """What the run that judged it kept of its data; None where that is gone, or of an older version."""
    run_id = champion.tags.get("evaluation_run_id")
    file = tracking.fetch_artifact(run_id, METRICS, into) if run_id else None
    if file is None:
        return None
    try:
        return figures_from(json.loads(file.read_text(encoding="utf-8"))["data"]["figures"])
    except (ValueError, KeyError, TypeError):
        return None


def fetch_anchor(name: str, champion: Champion | None, into: Path) -> Anchor | None:
    """The anchor, with its model where it is not the champion; None without a champion.

    One that cannot be had says why: it was deleted or altered, or its files are gone.
    """
    version = anchor_of(name)
    if champion is None or version is None:
        return None
    if version == champion.version:
        return Anchor(version, champion)
    found = lookup.by_version(name, version)
    if found is None:
        return Anchor(version, missing="it was deleted")
    if not found.model_sha256:
        return Anchor(version, missing="it was not registered by retrainer")
    try:
        directory = unaltered_model(found, into / "anchor", public_key=keys.verify_key())
    except UserError as error:
        # Where its files lie is nobody's matter: this stands in a report.
        places = (str(into / "anchor"), found.source.removeprefix("file://"))
        text = str(error)
        for place in places:
            text = text.replace(f"{place}/", "its ").replace(place, "it")
        return Anchor(version, missing=text)
    return Anchor(version, Champion(version, found.model_sha256, directory))
