"""Kubeflow's Model Registry on loopback, as far as Retrainer uses it: a real HTTP server that keeps state.

Written after api/openapi/model-registry.yaml of v0.3.8 and what that server was seen to do: names are unique
within their parent, a PATCH replaces the properties as a whole and keeps every field that it does not name, a
list comes in pages, and a field that the description lacks is refused. `faults` says what becomes of the next
writes, in order.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]

PREFIX = "/api/model_registry/v1alpha3/"
# What may happen to a write: a status instead of it; the connection cut before, or after, it took effect.
CUT, CUT_AFTER = "cut", "cut after"
# Less than there are versions, so that a list has several pages.
_PAGE = 2
_COMMON = {"customProperties", "description", "externalId"}
_FIELDS = {
    "registered_models": {*_COMMON, "state", "owner"},
    "model_versions": {*_COMMON, "state", "author"},
    "model_artifacts": {*_COMMON, "artifactType", "state", "uri", "modelFormatName", "modelFormatVersion"}
    | {f"modelSource{word}" for word in ("Kind", "Class", "Group", "Id", "Name")},
}
_STATES = {"LIVE", "ARCHIVED"}
_VALUES = {"MetadataStringValue": ("string_value", str), "MetadataDoubleValue": ("double_value", float | int)}


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Store:
    """Everything by kind, in the order in which it was made; `writes` and `asked` count requests.

    answer: instead of everything, a status with headers. seen: the headers of each request.
    """

    things: dict[str, list[Json]] = field(default_factory=lambda: {kind: [] for kind in _FIELDS})
    faults: list[str] = field(default_factory=list)
    answer: tuple[int, dict[str, str]] | None = None
    seen: list[dict[str, str]] = field(default_factory=list)
    writes: int = 0
    # How many versions had the label champion, after each write.
    champions: list[int] = field(default_factory=list)
    url: str = ""

    def one(self, kind: str, name: str) -> Json:
        (found,) = [thing for thing in self.things[kind] if thing["name"] == name]
        return found

    def properties(self, kind: str, name: str) -> dict[str, Any]:
        """Name → value."""
        told = self.one(kind, name)["customProperties"]
        return {key: value[_VALUES[value["metadataType"]][0]] for key, value in told.items()}

    def labels(self, name: str) -> set[str]:
        return {key for key, value in self.properties("model_versions", name).items() if value == ""}

    def create(self, kind: str, body: Json, parent: str = "") -> Json:
        thing = {"state": "LIVE", "customProperties": {}, **body}
        _check(kind, thing, {"name", *(("registeredModelId",) if kind == "model_versions" else ())})
        parent = parent or str(body.get("registeredModelId", ""))
        for other in self.things[kind]:
            if (other["name"], other["_parent"]) == (thing["name"], parent):
                raise Refused(409, f"{kind} with name {thing['name']} already exists")
        thing |= {"id": str(1 + sum(map(len, self.things.values()))), "_parent": parent}
        self.things[kind].append(thing)
        return thing

    def update(self, kind: str, number: str, body: Json) -> Json:
        _check(kind, body, set())
        found = [thing for thing in self.things[kind] if thing["id"] == number]
        if not found:
            raise Refused(404, f"no {kind} found for id {number}")
        found[0].update(body)
        return found[0]

    def listed(self, kind: str, query: dict[str, str], parent: str = "") -> Json:
        found = [thing for thing in self.things[kind] if thing["_parent"] == parent]
        if asked := query.get("filterQuery"):
            name = re.fullmatch(r"name = '([^']+)'", asked)
            if name is None:
                raise Refused(400, f"invalid filter query {asked}")
            found = [thing for thing in found if thing["name"] == name[1]]
        start = int(query.get("nextPageToken", "0"))
        page, rest = found[start : start + _PAGE], found[start + _PAGE :]
        token = str(start + _PAGE) if rest else ""
        return {"items": page, "nextPageToken": token, "pageSize": _PAGE, "size": len(page)}


def _check(kind: str, body: Json, more: set[str]) -> None:
    if unknown := body.keys() - _FIELDS[kind] - more:
        raise Refused(400, f"unknown field {sorted(unknown)}")
    if missing := more - body.keys():
        raise Refused(422, f"required fields are missing: {sorted(missing)}")
    if kind != "model_artifacts" and body.get("state", "LIVE") not in _STATES:
        raise Refused(400, f"no state {body['state']}")
    for key, value in body.get("customProperties", {}).items():
        name, kind_of_it = _VALUES[value["metadataType"]]
        if not isinstance(value[name], kind_of_it) or value.keys() != {"metadataType", name}:
            raise Refused(400, f"{key} is no {value['metadataType']}")


class _Handler(BaseHTTPRequestHandler):
    store: Store

    def do_GET(self) -> None:
        self._answered("GET")

    def do_POST(self) -> None:
        self._answered("POST")

    def do_PATCH(self) -> None:
        self._answered("PATCH")

    def log_message(self, *_: Any) -> None:
        pass

    def _answered(self, method: str) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        self.store.seen.append(dict(self.headers))
        if self.store.answer is not None:
            return self._send(self.store.answer[0], {"code": "", "message": "no"}, self.store.answer[1])
        fault = self.store.faults.pop(0) if self.store.faults and method != "GET" else ""
        if fault == CUT:
            return self.connection.close()
        if fault.isdigit():
            return self._send(int(fault), {"code": "", "message": "broken"})
        try:
            status, answer = (201 if method == "POST" else 200), self._done(method, body)
        except Refused as error:
            status, answer = error.status, {"code": "", "message": str(error)}
        if method != "GET":
            self.store.writes += 1
            names = [thing["name"] for thing in self.store.things["model_versions"]]
            self.store.champions.append(sum("champion" in self.store.labels(name) for name in names))
        if fault == CUT_AFTER:
            return self.connection.close()
        return self._send(status, _public(answer))

    def _done(self, method: str, body: Json) -> Json:
        parts = urlsplit(self.path)
        assert parts.path.startswith(PREFIX), parts.path
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        match [method, *parts.path.removeprefix(PREFIX).split("/")]:
            case ["GET", "registered_models"]:
                return self.store.listed("registered_models", query)
            case ["GET", "registered_models", number, "versions"]:
                return self.store.listed("model_versions", query, number)
            case ["GET", "model_versions", number, "artifacts"]:
                return self.store.listed("model_artifacts", query, number)
            case ["POST", "model_versions", number, "artifacts"]:
                return self.store.create("model_artifacts", body, number)
            case ["POST", ("registered_models" | "model_versions") as kind]:
                return self.store.create(kind, body)
            case ["PATCH", ("registered_models" | "model_versions" | "model_artifacts") as kind, number]:
                return self.store.update(kind, number, body)
        raise Refused(404, f"{method} {self.path}: this double does not know it")

    def _send(self, status: int, answer: Json, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _public(answer: Json) -> Json:
    shown = {key: value for key, value in answer.items() if not key.startswith("_")}
    return shown | ({"items": [_public(item) for item in shown["items"]]} if "items" in shown else {})


@contextmanager
def running_model_registry() -> Iterator[Store]:
    """An empty one, until the block ends."""
    store = Store()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"store": store}))
    store.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
