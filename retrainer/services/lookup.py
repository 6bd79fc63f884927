"""Reading the model registry without importing MLflow, so that looking costs milliseconds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from retrainer.services.address import registry_uri
from retrainer.services.readers import (
    MODEL_SHA256,
    PASSED,
    TEST_SAMPLE,
    TEST_SHA256,
    VERIFICATION,
    RegisteredVersion,
    reader_of,
)

if TYPE_CHECKING:
    from retrainer.uses_of_test_set import Judgement

CHAMPION = "champion"
CHALLENGER = "challenger"
# What begins an address of a registered model.
SCHEME = "models:/"
_ADDRESS = re.compile(rf"{SCHEME}(?P<name>[A-Za-z0-9][\w.\-]*)(?:@(?P<alias>[\w\-]+)|/(?P<version>\d+))")


class Address(NamedTuple):
    """`models:/NAME@ALIAS` or `models:/NAME/VERSION`: of alias and version one is empty."""

    name: str
    alias: str
    version: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}" + (f"@{self.alias}" if self.alias else f"/{self.version}")

    def find(self) -> RegisteredVersion | None:
        return by_alias(self.name, self.alias) if self.alias else by_version(self.name, self.version)


def address_of(text: str) -> Address | None:
    """None for a text that is no address of a registered model."""
    parts = _ADDRESS.fullmatch(text)
    return Address(parts["name"], parts["alias"] or "", parts["version"] or "") if parts else None


def by_alias(name: str, alias: str) -> RegisteredVersion | None:
    """The version that `name@alias` points at; None when there is no such model or alias."""
    return reader_of(registry_uri()).by_alias(name, alias)


def by_version(name: str, version: str) -> RegisteredVersion | None:
    return reader_of(registry_uri()).by_version(name, version)


def versions_of(name: str, model_sha256: str) -> list[RegisteredVersion]:
    """Every version that carries this model's digest, whatever its state, oldest first."""
    found = reader_of(registry_uri()).by_tag(name, MODEL_SHA256, model_sha256)
    return sorted(found, key=lambda version: int(version.version))


def by_sha256(name: str, model_sha256: str) -> RegisteredVersion | None:
    """The newest usable version of `name` that holds exactly this model."""
    usable = [version for version in versions_of(name, model_sha256) if version.usable]
    return usable[-1] if usable else None


def judgements(name: str) -> list[Judgement]:
    """What every version of `name` that this project registered says of the rows that judged it."""
    from retrainer.uses_of_test_set import Judgement

    return [
        Judgement(one.model_sha256, one.tags.get(TEST_SHA256, ""), one.tags.get(TEST_SAMPLE, ""))
        for one in reader_of(registry_uri()).versions(name)
        if one.model_sha256
    ]


def tags_by_version(name: str) -> dict[str, Mapping[str, str]]:
    """Version → its tags, of every version of `name`."""
    return {one.version: one.tags for one in reader_of(registry_uri()).versions(name)}


def usable_versions(name: str) -> list[RegisteredVersion]:
    """Every version of `name` that is complete and proven to serve, oldest first."""
    found = reader_of(registry_uri()).by_tag(name, VERIFICATION, PASSED)
    return sorted((one for one in found if one.usable), key=lambda version: int(version.version))


def tags_of(name: str) -> dict[str, str]:
    """The tags of the registered model itself; none when there is no such model."""
    return reader_of(registry_uri()).tags_of(name)


def state(name: str) -> dict[str, str | None]:
    """Alias → version, for the two aliases that the gate gives."""
    found = {alias: by_alias(name, alias) for alias in (CHAMPION, CHALLENGER)}
    return {alias: version.version if version else None for alias, version in found.items()}


def champion_is(name: str, recorded: Mapping[str, Any] | None) -> bool:
    """Whether the champion is still the recorded one (`version` and `model_sha256`; None: there was none)."""
    champion = by_alias(name, CHAMPION)
    if champion is None or recorded is None:
        return champion is None and recorded is None
    return (champion.version, champion.model_sha256) == (str(recorded["version"]), recorded["model_sha256"])


def still_holds(registration: Mapping[str, Any]) -> bool:
    """Whether the registry is as register left it: that version with that model, and that champion."""
    version = by_version(registration["name"], str(registration["version"]))
    if version is None or not version.usable or version.model_sha256 != registration["model_sha256"]:
        return False
    return champion_is(registration["name"], registration["champion"])
