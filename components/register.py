"""Registration: puts the judged model into the registry, proves that it serves, then moves an alias."""

from __future__ import annotations

from contextlib import AbstractContextManager

from retrainer.contract import InArtifact, InModel, Metadata, OutArtifact
from retrainer.settings import Registry


def register(model: InModel, report: InArtifact, registration: OutArtifact, registry: Registry) -> Metadata:
    """Model and report → registered version with an alias. Impure, and idempotent by model digest."""
    from retrainer.registry.register import register_model

    made = register_model(model, report, registration, registry)
    return {"registration": made}


def ahead(family: str) -> AbstractContextManager[None]:
    """Inside, what the step would wait for longest is on its way. `family` is that of the model to come."""
    from retrainer.registry.serving_check import serving_check_begun

    return serving_check_begun(family)
