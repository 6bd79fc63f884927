"""What can be compared: a registered version, or the report of a run that lies here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from retrainer.errors import ModelError, SettingError
from retrainer.formats.files import MANIFEST
from retrainer.formats.model_files import SETTINGS
from retrainer.formats.report import METRICS, read_report
from retrainer.registry.unaltered import unaltered_model
from retrainer.services import keys, lookup
from retrainer.services.download import model_files
from retrainer.services.readers import RegisteredVersion

Sections = Mapping[str, Mapping[str, Any]]
Figures = Mapping[str, Any]

# The id of the run that keeps a version's metrics.json.
_EVALUATION = "evaluation_run_id"


@dataclass(frozen=True)
class Place:
    """Where words are looked up: the recipe and its registered name, the project, and a scratch folder."""

    name: str
    recipe: str
    root: Path
    scratch: Path


@dataclass(frozen=True)
class Subject:
    """One of those that are compared.

    title       what its column is called
    figures     the content of its metrics.json; empty where it is not known
    settings    the sections that are known: of a version those that trained it
    tags        of the registered version; empty where there is none
    find_model  see `model`
    report      the folder of its report, where it lies here
    """

    title: str
    figures: Figures
    settings: Sections
    tags: Mapping[str, str]
    find_model: Callable[[], Path | None]
    report: Path | None = None
    code: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def model(self) -> Path | None:
        """Its model directory, every hash of which was checked; None where there is none.

        It is fetched from the registry when it is first asked for. Raises UserError where it was altered.
        """
        return self.find_model()


def subject_of(word: str, place: Place) -> Subject:
    """What a person named: `3`, `champion`, `models:/NAME/3`, a folder with a report, or a recipe.

    Raises UserError for what is none of them, and for a version or report that was altered.
    """
    version = _version_of(word, place)
    if version is not None:
        return _of_version(version, place)
    folder = _report_folder(word, place)
    if folder is not None:
        return _of_report(folder, place)
    raise ModelError(
        f"{word or 'an empty word'}: needed is a version's number or alias, as make history shows them, a"
        f" recipe that has run, or a folder with a report: runs/{place.recipe}/report, or one in"
        f" runs/{place.recipe}/history"
    )


def _version_of(word: str, place: Place) -> RegisteredVersion | None:
    """Raises UserError for the number or address of a version that is not there."""
    address = lookup.address_of(word)
    if address is None and not (word.isascii() and word.isdigit()):
        if word.startswith(lookup.SCHEME):
            raise ModelError(f"{word}: it should read models:/NAME@ALIAS or models:/NAME/VERSION")
        return lookup.by_alias(place.name, word) if word and "/" not in word else None
    address = address or lookup.Address(place.name, "", word)
    found = address.find()
    if found is None:
        raise ModelError(
            f"{address}: there is no such version; `make history` and `make ui` show those there are"
        )
    return found


def _report_folder(word: str, place: Place) -> Path | None:
    """The folder with metrics.json: the one named, the report inside it, or that of a recipe's last run."""
    path = Path(word)
    named = [place.root / path, place.root / path / "report"] if word else []
    if word and path.name == word:
        named.append(place.root / "runs" / word / "report")
    return next((one for one in named if (one / METRICS).is_file()), None)


def _of_version(version: RegisteredVersion, place: Place) -> Subject:
    own = "" if version.name == place.name else f"{version.name} "
    model = unaltered_model(version, place.scratch / version.name / version.version, keys.verify_key())
    settings = _read(model / SETTINGS)
    title, figures = f"{own}version {version.version}", _stored_figures(version, place)
    return Subject(title, figures, settings, version.tags, lambda: model)


def _stored_figures(version: RegisteredVersion, place: Place) -> Figures:
    """Its metrics.json, which the run that judged it keeps; none where that run is gone."""
    from retrainer.services.tracking import fetch_artifact

    run_id = version.tags.get(_EVALUATION)
    into = place.scratch / f"{version.name}-{version.version}-figures"
    into.mkdir(parents=True, exist_ok=True)
    file = fetch_artifact(run_id, METRICS, into) if run_id else None
    return {} if file is None else _read(file)


def _of_report(folder: Path, place: Place) -> Subject:
    figures = read_report(folder)
    about = _read(folder.parent / "run.json") if (folder.parent / "run.json").is_file() else {}
    sha256, name = figures["model_sha256"], str(figures["name"] or place.name)
    version = lookup.by_sha256(name, sha256)
    beside = _model_beside(folder, sha256)
    into = place.scratch / name / (version.version if version is not None else "")

    def find_model() -> Path | None:
        if beside is not None or version is None:
            return beside
        return unaltered_model(version, into / "model", keys.verify_key())

    trained = _trained_by(beside, version, into / "settings")
    known = about.get("settings") or {}
    tags = dict(version.tags) if version is not None else {}
    if about.get("git_commit"):
        tags.setdefault("git_commit", about["git_commit"])
    named = folder.parent if folder.name == "report" and folder.parent != place.root else folder
    title = str(named.relative_to(place.root) if named.is_relative_to(place.root) else named)
    title += f" (version {version.version})" if version is not None else ""
    return Subject(
        title,
        figures,
        {**known, **trained} if known else trained,
        tags,
        find_model,
        folder,
        known.get("code", {}),
    )


def _trained_by(model: Path | None, version: RegisteredVersion | None, into: Path) -> Sections:
    """The settings that the model was trained by; of a version that one file alone is fetched."""
    if model is None and version is not None:
        into.mkdir(parents=True, exist_ok=True)
        found = model_files(version, [SETTINGS], into)
        return _read(found[SETTINGS]) if SETTINGS in found else {}
    return _read(model / SETTINGS) if model is not None else {}


def _model_beside(folder: Path, sha256: str) -> Path | None:
    """runs/RECIPE/model, while it is still the one that the report judges."""
    from retrainer.formats.model_files import read_model

    model = folder.parent / "model"
    if not (model / MANIFEST).is_file() or _read(model / MANIFEST).get("model_sha256") != sha256:
        return None
    read_model(model)
    return model


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingError(f"{path}: it is no JSON ({error})") from None
    return found
