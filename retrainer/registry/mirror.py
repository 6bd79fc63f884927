"""Kubeflow's Model Registry as a second registry: it shows what MLflow's says, and decides nothing.

in MLflow                            in Kubeflow's Model Registry
registered model                     a RegisteredModel; properties `champion` and `challenger` name versions
version that was proven to serve     a ModelVersion of that number; tags and figures are its properties, and
                                     the alias that it holds is its label
its files                            a ModelArtifact of that version
version that is gone, or not proven  ARCHIVED, without a label

That registry has no transactions and deletes nothing. So that a killed writer, or two at once, leave nothing
twice and nothing wrong for good:
- Names are unique there: of two who make a version one is told that it is there.
- A version comes with its digest in one request. Its property `bundle_uri` comes with the last one, when its
  artifact is there; a version without it is finished by whoever comes next.
- The model's property `champion` changes in one request. The label is taken from the old version before, and
  given to the new one after it: no writer makes two.
- After the last request MLflow is asked again: where it has changed meanwhile, everything is told once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retrainer.errors import ServiceError, SettingError, UserError
from retrainer.registry.mirrored_model import Mirrored, Telling, read_truth
from retrainer.services import kubeflow_registry
from retrainer.services.kubeflow_registry import KubeflowRegistry, address_of
from retrainer.settings import Registry

# How often everything is told while MLflow keeps changing.
_ROUNDS = 5
FOR_A_SERVER = "registry.kubeflow is for an MLflow server, and MLflow is a file of this machine"


def second_registry(registry: Registry) -> KubeflowRegistry | None:
    """The registry that is told too; None without one. Raises SettingError for what cannot be used."""
    address = address_of(registry.kubeflow)
    return KubeflowRegistry(address) if address else None


def required_registry(registry: Registry) -> KubeflowRegistry:
    """As second_registry. Raises SettingError where nothing names one."""
    found = second_registry(registry)
    if found is not None:
        return found
    why = FOR_A_SERVER if registry.kubeflow else "registry.kubeflow is empty"
    raise SettingError(f"{why}; {kubeflow_registry.ADDRESS}=http(s)://host:port names a Model Registry")


def mirror(second: KubeflowRegistry, name: str) -> Mirrored:
    """Brings that registry to what MLflow says of the registered model.

    Raises UserError when it does not answer, or shows another model as a version of the same number.
    """
    from retrainer.services.connection import client, explained

    mlflow = client()
    with explained():
        for _ in range(_ROUNDS):
            truth = read_truth(name)
            shown = Telling(second, mlflow, name, truth).tell()
            if read_truth(name) == truth:
                return shown
    raise ServiceError(f"'{name}' keeps changing in MLflow while it is told; run `make mirror` later")


def told(second: KubeflowRegistry | None, registry: Registry, number: str) -> dict[str, Any]:
    """Tells it now; returns what `registration.json` says of it under `kubeflow`, empty without one.

    state: `told`; `failed`, and why; `off`, where the setting is not for an MLflow of this machine.
    """
    if second is None:
        off = registry.kubeflow and kubeflow_registry.is_of_this_machine()
        return {"kubeflow": {"address": registry.kubeflow, "state": "off"}} if off else {}
    try:
        shown = mirror(second, registry.name)
    except UserError as error:
        return {"kubeflow": {"address": second.address, "state": "failed", "why": str(error)}}
    ids = {"registered_model_id": shown.model_id, "model_version_id": shown.version_ids.get(number, "")}
    return {"kubeflow": {"address": second.address, "state": "told", **ids}}


def refuse_untold(registration: Mapping[str, Any]) -> None:
    """Raises ServiceError where MLflow has the version and the second registry could not be told."""
    kubeflow = registration.get("kubeflow", {})
    if kubeflow.get("state") == "failed":
        held = f"version {registration['version']} of '{registration['name']}' is {registration['alias']}"
        raise ServiceError(
            f"{held} in MLflow, and the second registry does not show it yet: {kubeflow['why']}."
            " `make mirror` tells it everything, and so does this step when it runs again"
        )
