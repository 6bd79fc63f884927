"""The three ways to ask a registry: its sqlite file, its REST interface, MLflow's own client."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from retrainer.errors import ServiceError
from retrainer.services.address import is_server, mlflow_program, sqlite_path

# Tags of a registered version.
MODEL_SHA256 = "model_sha256"
VERIFICATION = "verification"
PASSED = "passed"
SERVED_DIFFERENCE = "served_difference"
TEST_SHA256 = "test_sha256"
TEST_SAMPLE = "test_sample"
TRAIN_ROWS = "train_rows"

_BUSY_SECONDS = 10.0
_PAGE = "1000"


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model. `source` is where its files are; `run_id` may be empty."""

    name: str
    version: str
    source: str
    run_id: str
    status: str
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def model_sha256(self) -> str:
        """Empty for a version that something else than this project registered."""
        return self.tags.get(MODEL_SHA256, "")

    @property
    def usable(self) -> bool:
        """Complete, and proven to serve what was evaluated."""
        return self.status == "READY" and self.tags.get(VERIFICATION) == PASSED


class Reader(Protocol):
    def by_alias(self, name: str, alias: str) -> RegisteredVersion | None: ...

    def by_version(self, name: str, version: str) -> RegisteredVersion | None: ...

    def by_tag(self, name: str, tag: str, value: str) -> list[RegisteredVersion]:
        """The versions of `name` whose `tag` has exactly this value."""

    def versions(self, name: str) -> list[RegisteredVersion]:
        """Every version of `name`."""

    def tags_of(self, name: str) -> dict[str, str]: ...


def reader_of(uri: str) -> Reader:
    """The quickest reader that this address has."""
    path = sqlite_path(uri)
    if path is not None:
        return SqliteReader(path)
    if is_server(uri):
        from retrainer.services import rest

        return ClientReader() if rest.needs_client() else RestReader(uri)
    return ClientReader()


class SqliteReader:
    def __init__(self, path: Path) -> None:
        self.path = path

    def by_alias(self, name: str, alias: str) -> RegisteredVersion | None:
        where = (
            "v.version = (SELECT version FROM registered_model_aliases"
            " WHERE workspace = v.workspace AND name = v.name AND alias = ?)"
        )
        return next(iter(self._versions(name, where, alias)), None)

    def by_version(self, name: str, version: str) -> RegisteredVersion | None:
        return next(iter(self._versions(name, "v.version = CAST(? AS INTEGER)", version)), None)

    def by_tag(self, name: str, tag: str, value: str) -> list[RegisteredVersion]:
        where = (
            "EXISTS (SELECT 1 FROM model_version_tags t WHERE t.workspace = v.workspace AND t.name = v.name"
            " AND t.version = v.version AND t.key = ? AND t.value = ?)"
        )
        return self._versions(name, where, tag, value)

    def versions(self, name: str) -> list[RegisteredVersion]:
        return self._versions(name, "TRUE")

    def tags_of(self, name: str) -> dict[str, str]:
        query = "SELECT key, value FROM registered_model_tags WHERE workspace = ? AND name = ?"
        return dict(self.ask(lambda database: database.execute(query, (workspace(), name)).fetchall()))

    def artifacts_of(self, run_id: str) -> str | None:
        """Where a run keeps its files; None where there is no such run."""
        query = "SELECT artifact_uri FROM runs WHERE run_uuid = ?"
        found = self.ask(lambda database: database.execute(query, (run_id,)).fetchall())
        return str(found[0][0]) if found else None

    def _versions(self, name: str, where: str, *values: str) -> list[RegisteredVersion]:
        # Deleting a version keeps its row and marks it so.
        query = (
            "SELECT v.version, coalesce(v.storage_location, v.source), coalesce(v.run_id, ''), v.status"
            " FROM model_versions v WHERE v.workspace = ? AND v.name = ?"
            f" AND v.current_stage != 'Deleted_Internal' AND {where} ORDER BY v.version"
        )
        tags = "SELECT key, value FROM model_version_tags WHERE workspace = ? AND name = ? AND version = ?"
        own = workspace()

        def found(database: sqlite3.Connection) -> list[RegisteredVersion]:
            rows = database.execute(query, (own, name, *values)).fetchall()
            return [
                RegisteredVersion(name, str(number), source, run, status, dict(database.execute(tags, key)))
                for number, source, run, status in rows
                for key in [(own, name, number)]
            ]

        return self.ask(found)

    def ask(self, question: Callable[[sqlite3.Connection], list[Any]]) -> list[Any]:
        """The answer of the file; empty while nothing was ever registered in it."""
        if not self.path.is_file():
            return []
        try:
            return self._answer(question, "ro")
        except sqlite3.Error as error:
            if "no such table" in str(error):
                return []
            raise ServiceError(
                f"{self.path}: MLflow's database cannot be read ({error}); move it away to start afresh, or"
                f" run `{mlflow_program()} db upgrade sqlite:///{self.path}` when an older MLflow wrote it"
            ) from None

    def _answer(self, question: Callable[[sqlite3.Connection], list[Any]], mode: str) -> list[Any]:
        address = f"file:{quote(str(self.path.absolute()))}?mode={mode}"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS)) as database:
                return question(database)
        except sqlite3.OperationalError as error:
            # A writer was killed in the middle of a commit: its journal must be rolled back before anyone can
            # read, and SQLite does that only in a connection that may write.
            if mode == "ro" and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_READONLY:
                return self._answer(question, "rw")
            raise


def workspace() -> str:
    return os.environ.get("MLFLOW_WORKSPACE") or "default"


class RestReader:
    def __init__(self, uri: str) -> None:
        self.uri = uri

    def by_alias(self, name: str, alias: str) -> RegisteredVersion | None:
        return self._one("registered-models/alias", {"name": name, "alias": alias})

    def by_version(self, name: str, version: str) -> RegisteredVersion | None:
        return self._one("model-versions/get", {"name": name, "version": version})

    def by_tag(self, name: str, tag: str, value: str) -> list[RegisteredVersion]:
        return self._search(_filter(name, tag, value))

    def versions(self, name: str) -> list[RegisteredVersion]:
        return self._search(f"name = '{name}'")

    def _search(self, wanted: str) -> list[RegisteredVersion]:
        from retrainer.services import rest

        query = {"filter": wanted, "max_results": _PAGE}
        try:
            answer = rest.ask(self.uri, "model-versions/search", query) or {}
        except rest.Refused:
            return ClientReader().search(wanted)
        return [_from_json(item) for item in answer.get("model_versions", ())]

    def tags_of(self, name: str) -> dict[str, str]:
        from retrainer.services import rest

        try:
            answer = rest.ask(self.uri, "registered-models/get", {"name": name})
        except rest.Refused:
            return ClientReader().tags_of(name)
        model = (answer or {}).get("registered_model", {})
        return {tag["key"]: tag.get("value", "") for tag in model.get("tags", ())}

    def _one(self, path: str, query: dict[str, str]) -> RegisteredVersion | None:
        from retrainer.services import rest

        try:
            answer = rest.ask(self.uri, path, query)
        except rest.Refused:
            # MLflow's client may know of credentials in a file.
            client = ClientReader()
            return client.by_alias(**query) if "alias" in query else client.by_version(**query)
        return _from_json(answer["model_version"]) if answer else None


def _from_json(item: dict[str, Any]) -> RegisteredVersion:
    tags = {tag["key"]: tag.get("value", "") for tag in item.get("tags", ())}
    source, run_id = item.get("source", ""), item.get("run_id", "")
    return RegisteredVersion(item["name"], str(item["version"]), source, run_id, item.get("status", ""), tags)


def _filter(name: str, tag: str, value: str) -> str:
    return f"name = '{name}' AND tag.{tag} = '{value}'"


class ClientReader:
    def by_alias(self, name: str, alias: str) -> RegisteredVersion | None:
        return _from_client(lambda client: client.get_model_version_by_alias(name, alias))

    def by_version(self, name: str, version: str) -> RegisteredVersion | None:
        return _from_client(lambda client: client.get_model_version(name, version))

    def by_tag(self, name: str, tag: str, value: str) -> list[RegisteredVersion]:
        return self.search(_filter(name, tag, value))

    def versions(self, name: str) -> list[RegisteredVersion]:
        return self.search(f"name = '{name}'")

    def search(self, wanted: str) -> list[RegisteredVersion]:
        from retrainer.services.connection import client

        return [_from_entity(entity) for entity in client().search_model_versions(wanted)]

    def tags_of(self, name: str) -> dict[str, str]:
        from retrainer.services.connection import client

        return next((dict(model.tags) for model in client().search_registered_models(f"name = '{name}'")), {})


def _from_client(ask: Any) -> RegisteredVersion | None:
    from mlflow.exceptions import MlflowException

    from retrainer.services.connection import client

    try:
        return _from_entity(ask(client()))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST" or "not found" in str(error):
            return None
        raise


def _from_entity(entity: Any) -> RegisteredVersion:
    return RegisteredVersion(
        entity.name, str(entity.version), entity.source, entity.run_id or "", entity.status, dict(entity.tags)
    )
