"""The champion of a registered model, fetched so that evaluation can score it again on today's rows."""

from __future__ import annotations

from pathlib import Path

from retrainer.errors import ModelError
from retrainer.gate.evidence import Champion
from retrainer.registry.unaltered import unaltered_model
from retrainer.services import keys, lookup


def fetch_champion(name: str, into: Path) -> Champion | None:
    """The version that `name@champion` points at; None when there is none yet.

    `directory` is where the registry keeps it, when that is on this machine, else below `into`.
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
    return Champion(found.version, found.model_sha256, directory)
