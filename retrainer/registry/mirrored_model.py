"""One registered model as Kubeflow's Model Registry shows it, brought to what MLflow says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from typing import TYPE_CHECKING, Any

from retrainer.errors import ModelError, ServiceError
from retrainer.registry.mirrored_properties import (
    GONE,
    LABELS,
    Properties,
    as_label,
    digest_in,
    figures_of,
    properties_of,
    text,
)
from retrainer.registry.standing import STANDING
from retrainer.services import lineage, lookup
from retrainer.services.actor import printable
from retrainer.services.address import without_credentials
from retrainer.services.kubeflow_registry import KubeflowRegistry, Thing
from retrainer.services.readers import RegisteredVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient

LIVE, ARCHIVED = "LIVE", "ARCHIVED"
BUNDLE_URI = "bundle_uri"
MODELS, VERSIONS, ARTIFACTS = "registered_models", "model_versions", "model_artifacts"


@dataclass(frozen=True)
class Truth:
    """What MLflow says: alias → version, and the versions that were proven to serve, by number."""

    aliases: Mapping[str, str | None]
    versions: Mapping[str, RegisteredVersion]

    def alias_of(self, number: str) -> str:
        return next((alias for alias in LABELS if self.aliases[alias] == number), "")


@dataclass(frozen=True)
class Mirrored:
    """What that registry shows: its ids of the model and, by number, of the versions. `made` and `changed`
    count what was not as it should be."""

    address: str
    model_id: str
    version_ids: Mapping[str, str]
    made: int
    changed: int


def read_truth(name: str) -> Truth:
    return Truth(lookup.state(name), {found.version: found for found in lookup.usable_versions(name)})


@dataclass
class Telling:
    """One round, in an order of which any request may be the last: see mirror.py."""

    second: KubeflowRegistry
    mlflow: MlflowClient
    name: str
    truth: Truth
    made: int = 0
    changed: int = 0
    model: Thing = field(default_factory=dict)

    def tell(self) -> Mirrored:
        versions, found = self.truth.versions, self._found_model()
        if not versions and found is None:  # what was made there stays for good
            return Mirrored(self.second.address, "", {}, 0, 0)
        self.model = found or self._new_model()
        shown = self._shown()
        for number, version in versions.items():
            self._refuse_another(version, shown.get(number))
        for number, version in versions.items():
            shown[number] = self._version(version, shown.get(number))
        for number in shown.keys() - versions.keys():
            self._archive(shown[number])
        self._name_holders()
        for number in versions:
            if alias := self.truth.alias_of(number):
                self._write(VERSIONS, shown[number], as_label(alias))
        ids = {number: str(shown[number]["id"]) for number in versions}
        return Mirrored(self.second.address, str(self.model["id"]), ids, self.made, self.changed)

    def _found_model(self) -> Thing | None:
        # Compared here: the server's own lookup by a name takes `_` for any letter (v0.3.8).
        named = self.second.every(MODELS, filterQuery=f"name = '{self.name}'")
        return next((one for one in named if one.get("name") == self.name), None)

    def _new_model(self) -> Thing:
        about = f"Registered by Retrainer: models:/{self.name} in MLflow says which version is champion"
        fields = {"name": self.name, "description": about, "state": LIVE}
        return self.second.create(MODELS, fields) or self._made_meanwhile(self._found_model())

    def _shown(self) -> dict[str, Thing]:
        versions = self.second.every(f"{MODELS}/{self.model['id']}/versions")
        return {str(one.get("name")): one for one in versions}

    def _refuse_another(self, version: RegisteredVersion, shown: Thing | None) -> None:
        """Raises ModelError for a version of that number that is no copy of MLflow's."""
        if shown is not None and (theirs := digest_in(shown)) != version.model_sha256:
            known = f"model_sha256 {printable(theirs[:12])}" if theirs else "no model_sha256"
            raise ModelError(
                f"version {version.version} of '{self.name}' at {self.second.address} is another model than"
                f" MLflow's ({known}, in MLflow {version.model_sha256[:12]}): another MLflow, or a person,"
                " made it; set registry.name, or cluster.model_prefix, to a name that is free there"
            )

    def _version(self, version: RegisteredVersion, shown: Thing | None) -> Thing:
        """The version with its artifact and all properties. A label that still holds stays; none is given."""
        told = properties_of(version)
        shown = shown or self._new_version(version, told)
        before = _properties(shown)
        alias = self.truth.alias_of(version.version)
        label = as_label(alias) if alias in before else {}
        if BUNDLE_URI not in before or not told.items() <= before.items():
            told |= {BUNDLE_URI: text(self._artifact(shown, version)), **figures_of(self.mlflow, version)}
        lives = alias or before.get(STANDING) == text(GONE)
        return self._write(VERSIONS, shown, told | label, LIVE if lives else "")

    def _new_version(self, version: RegisteredVersion, told: Properties) -> Thing:
        fields = {
            "name": version.version,
            "registeredModelId": str(self.model["id"]),
            "author": "retrainer",
            "description": f"models:/{self.name}/{version.version} in MLflow",
            "state": LIVE,
            "customProperties": told,
        }
        made = self.second.create(VERSIONS, fields)
        self.made += made is not None
        return made or self._made_meanwhile(self._shown().get(version.version))

    def _artifact(self, shown: Thing, version: RegisteredVersion) -> str:
        """Makes the version's artifact, or mends it; returns where the files are."""
        uri = without_credentials(self.mlflow.get_model_version_download_uri(self.name, version.version))
        fields: dict[str, Any] = {"artifactType": "model-artifact", "uri": uri, "state": LIVE}
        fields |= {"modelFormatName": "mlflow", "modelFormatVersion": installed("mlflow").partition(".")[0]}
        if run := version.tags.get(lineage.KFP_RUN_ID):
            fields |= {"modelSourceKind": "kfp", "modelSourceClass": "pipelinerun", "modelSourceId": run}
        path = f"{VERSIONS}/{shown['id']}/artifacts"
        there = next((one for one in self.second.every(path) if one.get("name") == self.name), None)
        if there is None:
            self.second.create(path, fields | {"name": self.name})
        elif there.get("uri") != uri:
            self.second.update(f"{ARTIFACTS}/{there['id']}", fields)
        return uri

    def _archive(self, shown: Thing) -> None:
        """What somebody else made is left as it is."""
        if digest_in(shown):
            self._write(VERSIONS, shown, {STANDING: text(GONE)}, ARCHIVED)

    def _name_holders(self) -> None:
        held = {alias: text(number) for alias in LABELS if (number := self.truth.aliases[alias])}
        self.model = self._write(MODELS, self.model, held, LIVE if held else "")

    def _write(self, kind: str, shown: Thing, told: Properties, state: str = "") -> Thing:
        """The thing with these properties and what others have added to it, and no alias but what is told."""
        before = _properties(shown)
        after = {key: value for key, value in before.items() if key not in LABELS} | told
        fields: dict[str, Any] = {"customProperties": after} if after != before else {}
        if state and shown.get("state") != state:
            fields["state"] = state
        if not fields:
            return shown
        self.changed += 1
        return self.second.update(f"{kind}/{shown['id']}", fields)

    def _made_meanwhile(self, found: Thing | None) -> Thing:
        """What somebody else has just made."""
        if found is None:
            raise ServiceError(
                f"Kubeflow's Model Registry at {self.second.address} says that it has '{self.name}', or a"
                " version of it, and does not show it; ask who runs that registry"
            )
        return found


def _properties(shown: Thing) -> Properties:
    return shown.get("customProperties") or {}
