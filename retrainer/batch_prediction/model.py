"""The model that predicts: the champion of a recipe, another version of it, or a model directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.batch_prediction.columns import InputColumns, input_columns
from retrainer.batch_prediction.sections import Sections
from retrainer.errors import ModelError, SettingError
from retrainer.services import lookup

if TYPE_CHECKING:
    from retrainer.predict import Predictor

_DIGEST_SHOWN = 12


@dataclass(frozen=True)
class LoadedModel:
    """`version`: of the registry, or the beginning of the digest where the model comes from a directory.
    `title`: in words. `name`: of the registered model, empty where there is none."""

    predictor: Predictor
    columns: InputColumns
    name: str
    version: str
    title: str


def load_model(
    sections: Sections, version: str = "", model: Path | None = None, device: str = ""
) -> LoadedModel:
    """`version`: a number, an alias such as `challenger`, or nothing for the champion; `model`: a directory.

    Raises SettingError or ModelError where there is no such model, and what `Predictor.load` raises.
    """
    from retrainer.predict import Predictor
    from retrainer.services.scratch import scratch_directory
    from retrainer.training.compute import for_scoring, resolve_compute

    if version and model:
        raise SettingError(f"VERSION={version} and MODEL={model} name two models; leave one of them out")
    device = device or for_scoring(resolve_compute(sections.compute)).device
    with scratch_directory() as scratch:
        name, directory, words = sections.registry.name, model, ""
        if directory is None:
            directory, version, words = _registered(name, version, scratch)
        predictor = Predictor.load(directory, device)
        columns = input_columns(predictor.task, sections.source, directory)
    digest = predictor.model_sha256[:_DIGEST_SHOWN]
    if model is not None:
        return LoadedModel(predictor, columns, "", digest, f"{model} ({digest})")
    return LoadedModel(predictor, columns, name, version, f"{words} of {name} ({digest})")


def _registered(name: str, wanted: str, scratch: Path) -> tuple[Path, str, str]:
    """The directory of a registered version, after every check; its number, and which it is in words."""
    from retrainer.registry.unaltered import unaltered_model
    from retrainer.services import keys

    alias = wanted.removeprefix("@") or lookup.CHAMPION
    number = alias.isdecimal()
    found = lookup.by_version(name, alias) if number else lookup.by_alias(name, alias)
    if found is None:
        missing = f"version {alias} of {name}" if number else f"{alias} of {name}"
        raise ModelError(
            f"there is no {missing}; run make pipeline, name another by VERSION (make history lists them), or"
            " a directory by MODEL"
        )
    directory = unaltered_model(found, scratch / "model", public_key=keys.verify_key())
    words = f"version {found.version}" if number else f"the {alias}, version {found.version}"
    return directory, str(found.version), words
