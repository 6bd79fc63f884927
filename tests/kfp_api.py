"""Kubeflow Pipelines' API v2beta1 on loopback: a real HTTP server that keeps state, for tests.

Every request and every answer is validated against the published specification, unknown fields included; what
breaks it is refused and noted in `violations`, which `running_api` asserts to be empty. Faults come at chosen
moments: `faults` maps a method and a part of the path to what happens to the next such requests, in order.

Runs advance by their `script`: each time a run is asked for, its next entry is merged into it.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, unquote_plus, urlsplit

import jsonschema
import pytest

from tests.conftest import ROOT

SPECIFICATION = ROOT.parent / "shared" / "specs" / "kfp_v2beta1.swagger.json"
Json = dict[str, Any]

# What may happen to a request: this status; the connection cut before, or after, the request took effect.
FAIL_500, FAIL_503, CUT, CUT_AFTER = "500", "503", "cut", "cut after"
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")
_LOG = re.compile(r"/apis/v1alpha1/runs/[^/]+/nodes/([^/]+)/log")
_NOT_FOUND, _INVALID, _INTERNAL = 5, 3, 13


class Specification:
    """The published paths and definitions; `check` raises jsonschema.ValidationError."""

    def __init__(self, path: Path) -> None:
        content = json.loads(path.read_text())
        self.definitions = {name: self._strict(body) for name, body in content["definitions"].items()}
        self.operations = [
            (method.upper(), re.compile(re.sub(r"\\\{[^/}]+\\\}", "([^/:]+)", re.escape(path)) + "$"), body)
            for path, methods in content["paths"].items()
            for method, body in methods.items()
        ]
        self.formats = jsonschema.FormatChecker(formats=())
        self.formats.checks("date-time")(
            lambda value: not isinstance(value, str) or bool(_RFC3339.match(value))
        )

    def _strict(self, schema: Any) -> Any:
        """Named properties and no others; 64-bit numbers as text, as the gateway writes them."""
        if isinstance(schema, list):
            return [self._strict(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        if "$ref" in schema:
            return {"$ref": schema["$ref"]}
        strict = {key: self._strict(value) for key, value in schema.items()}
        if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
            strict["additionalProperties"] = False
        if schema.get("format") == "int64":
            strict["pattern"] = r"^-?\d+$"
        return strict

    def operation(self, method: str, path: str) -> Json | None:
        found = [body for name, pattern, body in self.operations if name == method and pattern.match(path)]
        return found[0] if found else None

    def check(self, schema: Json, value: Any) -> None:
        whole = {**self._strict(schema), "definitions": self.definitions}
        jsonschema.Draft4Validator(whole, format_checker=self.formats).validate(value)

    def check_request(self, operation: Json, query: dict[str, str], body: Any) -> None:
        known = {p["name"]: p for p in operation.get("parameters", ()) if p["in"] == "query"}
        for name, text in query.items():
            if name not in known:
                raise jsonschema.ValidationError(f"unknown query parameter {name}")
            value: Any = int(text) if known[name]["type"] == "integer" else text
            allowed = {key: known[name][key] for key in ("type", "enum") if key in known[name]}
            jsonschema.Draft4Validator(allowed).validate(value)
        if "filter" in query:
            self.check({"$ref": "#/definitions/v2beta1Filter"}, filter_of(query))
        wanted = [p["schema"] for p in operation.get("parameters", ()) if p["in"] == "body"]
        if bool(wanted) != (body is not None):
            raise jsonschema.ValidationError("a body is missing" if wanted else "a body is not wanted")
        if wanted:
            self.check(wanted[0], body)


class Failure(Exception):
    """An answer of the API that is no success: HTTP status, gRPC code, message."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Api:
    """The state, and what the operations do to it."""

    def __init__(self, specification: Specification) -> None:
        self.specification = specification
        self.experiments: dict[str, Json] = {}
        self.runs: dict[str, Json] = {}
        self.recurring: dict[str, Json] = {}
        self.scripts: dict[str, list[Json]] = {}
        self.faults: dict[tuple[str, str], list[str]] = {}
        self.violations: list[str] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []  # method, path, headers
        self.queries: list[tuple[str, str, dict[str, str]]] = []  # method, path, query
        self.logs: dict[str, str] = {}  # by pod
        self.changes: dict[str, Json] = {}  # what a kind of thing gets instead of what was asked
        self.token = ""
        self.page_size = 3
        self.address = ""
        self.lock = threading.Lock()

    def fault_for(self, method: str, path: str) -> str:
        for (wanted, part), coming in self.faults.items():
            if wanted == method and part in path and coming:
                return coming.pop(0)
        return ""

    def log_of(self, pod: str) -> str:
        """As run_log_server.go of KFP 2.17: an error is told in the body, behind the status 200."""
        error = f"Failed to read logs from pod {pod}"
        return self.logs.get(pod, json.dumps({"error_message": error, "error_details": error}))

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Json:
        operation = self.specification.operation(method, path)
        if operation is None:
            self.violations.append(f"{method} {path}: the specification has no such operation")
            raise Failure(404, _NOT_FOUND, "no such operation")
        try:
            self.specification.check_request(operation, query, body)
        except jsonschema.ValidationError as error:
            self.violations.append(f"{method} {path}: {error.message} at {list(error.absolute_path)}")
            raise Failure(400, _INVALID, error.message) from None
        made = self._perform(method, path.removeprefix("/apis/v2beta1/"), query, body)
        try:
            self.specification.check(operation["responses"]["200"]["schema"], made)
        except jsonschema.ValidationError as error:
            self.violations.append(
                f"answer to {method} {path}: {error.message} at {list(error.absolute_path)}"
            )
        return made

    def _perform(self, method: str, path: str, query: dict[str, str], body: Any) -> Json:
        kind, _, rest = path.partition("/")
        store = {"experiments": self.experiments, "runs": self.runs, "recurringruns": self.recurring}[kind]
        if method == "POST" and not rest:
            make = {"experiments": self._experiment, "runs": self._run, "recurringruns": self._schedule}
            made = make[kind](body)
            made |= self.changes.get(kind, {})
            return made
        if method == "GET" and not rest:
            return self._list("recurringRuns" if kind == "recurringruns" else kind, store, query)
        if rest not in store:
            raise Failure(404, _NOT_FOUND, f"{kind} {rest} not found")
        if method == "DELETE":
            del store[rest]
            return {}
        if kind == "runs" and self.scripts.get(rest):
            store[rest] = store[rest] | self.scripts[rest].pop(0)
        return store[rest]

    def _experiment(self, body: Json) -> Json:
        same = [e for e in self.experiments.values() if e["display_name"] == body["display_name"]]
        if same:
            raise Failure(409, 6, f"experiment {body['display_name']} already exists")
        return self._keep(self.experiments, "experiment_id", body | {"storage_state": "AVAILABLE"})

    def _run(self, body: Json) -> Json:
        self._check_parent(body)
        return self._keep(
            self.runs, "run_id", body | {"state": "PENDING", "finished_at": "1970-01-01T00:00:00Z"}
        )

    def _schedule(self, body: Json) -> Json:
        self._check_parent(body)
        if not 1 <= int(body["max_concurrency"]) <= 10:
            raise Failure(400, _INVALID, "max_concurrency out of range")
        status = "ENABLED" if body.get("mode") == "ENABLE" else "DISABLED"
        return self._keep(self.recurring, "recurring_run_id", body | {"status": status})

    def _check_parent(self, body: Json) -> None:
        if body.get("experiment_id") not in self.experiments:
            raise Failure(404, _NOT_FOUND, "the experiment was not found")
        spec = body["pipeline_spec"]
        spec = spec.get("pipeline_spec", spec)
        if spec.get("schemaVersion") != "2.1.0" or not spec["pipelineInfo"]["name"] or "root" not in spec:
            raise Failure(400, _INVALID, "invalid v2 pipeline spec")
        unknown = set(body["runtime_config"].get("parameters", {})) - set(parameters_of(spec))
        if unknown:
            raise Failure(400, _INVALID, f"parameter(s) provided are not required or not defined: {unknown}")

    @staticmethod
    def _keep(store: dict[str, Json], key: str, body: Json) -> Json:
        made = body | {key: str(uuid.uuid4()), "created_at": now()}
        store[made[key]] = made
        return made

    def _list(self, field: str, store: dict[str, Json], query: dict[str, str]) -> Json:
        found = list(store.values())
        if experiment := query.get("experiment_id"):
            found = [each for each in found if each["experiment_id"] == experiment]
        for predicate in filter_of(query).get("predicates", ()):
            assert predicate["operation"] == "EQUALS", predicate
            found = [each for each in found if each.get(predicate["key"]) == predicate["string_value"]]
        if query.get("sort_by") == "created_at desc":
            found.reverse()
        first = int(query.get("page_token", "0") or 0)
        last = first + min(self.page_size, int(query.get("page_size", "20")))
        answer: Json = {field: found[first:last], "total_size": len(found)}
        return answer | ({"next_page_token": str(last)} if last < len(found) else {})


def filter_of(query: dict[str, str]) -> Json:
    """The filter, decoded once more than the query (KFP 2.17, list_request_util.go, parseAPIFilter)."""
    found: Json = json.loads(unquote_plus(query.get("filter", "{}")))
    return found


def parameters_of(spec: Json) -> Json:
    found: Json = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    return found


def now() -> str:
    """As the gateway writes it: whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: Api

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), dict(parse_qsl(parts.query))
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        with self.api.lock:
            self.api.requests.append((self.command, path, dict(self.headers.items())))
            self.api.queries.append((self.command, path, query))
            fault = self.api.fault_for(self.command, path)
            if fault == CUT:
                return self._cut()
            if fault in (FAIL_500, FAIL_503):
                return self._send(
                    int(fault), {"code": _INTERNAL, "message": "the database is away", "details": []}
                )
            if self.api.token and self.headers.get("authorization") != f"Bearer {self.api.token}":
                return self._send(401, {"code": 16, "message": "Request header error", "details": []})
            if found := _LOG.fullmatch(path):
                return self._send_text(self.api.log_of(found[1]))
            try:
                status, answer = 200, self.api.answer(self.command, path, query, body)
            except Failure as error:
                status, answer = error.status, {"code": error.code, "message": str(error), "details": []}
        return self._cut() if fault == CUT_AFTER else self._send(status, answer)

    do_GET = do_POST = do_DELETE = _serve

    def _cut(self) -> None:
        self.close_connection = True

    def _send(self, status: int, answer: Json) -> None:
        if status != 200:
            self.api.specification.check({"$ref": "#/definitions/googleRpcStatus"}, answer)
        self._send_bytes(status, "application/json", json.dumps(answer).encode())

    def _send_text(self, text: str) -> None:
        self._send_bytes(200, "text/plain", text.encode())

    def _send_bytes(self, status: int, kind: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    # Several tests call at once from many threads.
    request_queue_size = 64


@contextmanager
def running_api() -> Iterator[Api]:
    """The server; at the end, asserts that nothing broke the specification. Skips where that is absent."""
    if not SPECIFICATION.is_file():
        pytest.skip("no ../shared/specs/kfp_v2beta1.swagger.json beside the project")
    api = Api(Specification(SPECIFICATION))
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": api}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    api.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert api.violations == []
