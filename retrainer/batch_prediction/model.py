"""The model that predicts: the champion of a recipe, another version of it, or a model directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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


class FoundModel(NamedTuple):
    """A model's directory, after every check where it comes from the registry; its version, and which it is
    in words: both empty where a directory was named."""

    directory: Path
    version: str
    words: str


def load_model(
    sections: Sections, version: str = "", model: Path | None = None, device: str = ""
) -> LoadedModel:
    """`version`: a number, an alias such as `challenger`, or nothing for the champion; `model`: a directory.

    Raises SettingError or ModelError where there is no such model, and what `Predictor.load` raises.
    """
    from retrainer.training.compute import for_scoring, resolve_compute

    with found_model(sections, version, model) as found:
        return loaded(sections, found, device or for_scoring(resolve_compute(sections.compute)).device)


@contextmanager
def found_model(sections: Sections, version: str = "", model: Path | None = None) -> Iterator[FoundModel]:
    """The model's directory, inside of the block; see `load_model`."""
    from retrainer.services.scratch import scratch_directory

    if version and model:
        raise SettingError(f"VERSION={version} and MODEL={model} name two models; leave one of them out")
    with scratch_directory() as scratch:
        if model is not None:
            yield FoundModel(model, "", "")
        else:
            yield _registered(sections.registry.name, version, scratch)


def loaded(sections: Sections, found: FoundModel, device: str) -> LoadedModel:
    """The found model in memory. Raises what `Predictor.load` raises."""
    from retrainer.predict import Predictor

    predictor = Predictor.load(found.directory, device)
    columns = input_columns(predictor.task, sections.source, found.directory)
    digest = predictor.model_sha256[:_DIGEST_SHOWN]
    if not found.words:
        return LoadedModel(predictor, columns, "", digest, f"{found.directory} ({digest})")
    name = sections.registry.name
    return LoadedModel(predictor, columns, name, found.version, f"{found.words} of {name} ({digest})")


def _registered(name: str, wanted: str, scratch: Path) -> FoundModel:
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
    return FoundModel(directory, str(found.version), words)
