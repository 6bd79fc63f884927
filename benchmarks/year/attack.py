"""Two attacks by somebody who may write to the registry: its files and MLflow's database.

One puts other weights in the champion's place and covers it up: those that choose the class are moved on by
one class, and the manifest and the tags are written anew, so that every hash agrees. What remains is the
signature. The other points the alias at an old version, which is whole and signed. What remains is the
history.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from benchmarks.year.project import Project
from retrainer.formats.files import MANIFEST, digest_of, hash_files, write_json
from retrainer.formats.model_files import WEIGHTS
from retrainer.registry.unaltered import BUNDLE_SHA256, bundle_digest
from retrainer.services.download import MODEL_INSIDE, registered_files
from retrainer.services.lookup import CHAMPION
from retrainer.services.readers import MODEL_SHA256, RegisteredVersion, SqliteReader

_LENGTH_BYTES = 8  # of a safetensors file's header, before it


def swap_the_champion(project: Project) -> None:
    database = project.folder / "mlflow.db"
    champion = SqliteReader(database).by_alias(project.recipe["registry"]["name"], CHAMPION)
    assert champion is not None
    bundle = registered_files(champion, project.folder)
    model = bundle / MODEL_INSIDE
    move_classes(model / WEIGHTS)
    manifest = json.loads((model / MANIFEST).read_text(encoding="utf-8"))
    manifest["files"] = hash_files(model)
    manifest["model_sha256"] = digest_of(manifest["files"])
    write_json(model / MANIFEST, manifest)
    tags = {MODEL_SHA256: manifest["model_sha256"], BUNDLE_SHA256: bundle_digest(bundle)}
    _cover_up(database, champion, tags)


def move_the_alias(project: Project, version: int = 1) -> None:
    change = "UPDATE registered_model_aliases SET version = ? WHERE name = ? AND alias = ?"
    with closing(sqlite3.connect(project.folder / "mlflow.db")) as registry, registry:
        registry.execute(change, (version, project.recipe["registry"]["name"], CHAMPION))


def move_classes(weights: Path) -> None:
    """Every class gets the weights of the class before it: the last matrix of the file, turned by a row."""
    content = bytearray(weights.read_bytes())
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
    (about,) = (one for name, one in header.items() if name.startswith("head") and len(one["shape"]) == 2)
    first, end = (_LENGTH_BYTES + length + at for at in about["data_offsets"])
    row = (end - first) // about["shape"][0]
    content[first:end] = content[end - row : end] + content[first : end - row]
    weights.write_bytes(content)


def _cover_up(database: Path, version: RegisteredVersion, tags: Mapping[str, str]) -> None:
    change = "UPDATE model_version_tags SET value = ? WHERE name = ? AND version = ? AND key = ?"
    with closing(sqlite3.connect(database)) as registry, registry:
        for key, value in tags.items():
            registry.execute(change, (value, version.name, version.version, key))
