"""Rehearsals of tiny pipelines: each step is one line of Python in a small Debian container.

`python -m tests.rehearsal FOLDER CODE SERVERS` runs one, as a process that a test can end from outside.
"""

# No `from __future__ import annotations` here: kfp reads the annotations themselves, not their text.
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kfp import compiler, dsl, kubernetes

from components._process import report_failure
from pipelines.containers.background import Background
from pipelines.containers.docker_api import engine
from pipelines.containers.loopback import Services, serve
from pipelines.containers.record import PIPELINE, Record
from pipelines.containers.rehearse import perform
from retrainer.errors import UserError
from retrainer.services.processes import this_process
from tests.conftest import ROOT

IMAGE = "localhost/retrainer-tests:user"
SECRET = "canary-9f2c"
PYTHON = "python3"


@contextmanager
def engine_with_image() -> Iterator[Any]:
    """The machine's engine, as DOCKER_HOST, with IMAGE: Debian with Python, as a user other than root."""
    declared = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    official = next(line.removeprefix("ARG BASE=") for line in declared.splitlines() if "ARG BASE=" in line)
    reasons = []
    for base in ("localhost/retrainer-base:bookworm", official):
        try:
            with Background() as background, engine(background, [base], this_process()) as client:
                if not client.images.list(name=IMAGE):
                    made = client.containers.create(base, ["true"])
                    made.commit(*IMAGE.split(":"), changes="USER 10001:10001")
                    made.remove()
                yield client
                return
        except UserError as error:
            reasons.append(str(error))
    pytest.skip("; ".join(reasons))


def step(name: str, code: str, image: str, inputs: tuple[str, ...], memory: str = "") -> Any:
    """A step that finds its inputs' paths in `sys.argv[2:]`, and its output's (named as itself) in [1]."""

    def body(*values: Any) -> dsl.ContainerSpec:
        paths = [value.path for value in values]
        return dsl.ContainerSpec(image=image, command=[PYTHON, "-uc", code], args=paths)

    ports = {name: dsl.Output[dsl.Dataset], **dict.fromkeys(inputs, dsl.Input[dsl.Dataset])}
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(port, kind, annotation=hint) for port, hint in ports.items()]
    body.__name__ = f"step_{name}"
    body.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    component = dsl.container_component(body)

    def call(**arguments: Any) -> Any:
        task = kubernetes.empty_dir_mount(component(**arguments), "tmp", "/tmp")
        return task.set_memory_limit(memory).outputs[name] if memory else task.outputs[name]

    return call


def record_of(folder: Path, *codes: str, image: str = IMAGE, memory: str = "") -> Record:
    """A rehearsal, not yet run, of a chain of steps `a`, `b`, … with this code."""
    names = "abcdef"[: len(codes)]

    @dsl.pipeline(name="tiny")
    def chain() -> None:
        made: dict[str, Any] = {}
        for name, code in zip(names, codes, strict=True):
            made = {name: step(name, code, image, tuple(made), memory)(**made)}

    return record_with(folder, chain)


def record_with(folder: Path, pipeline: Any) -> Record:
    """A rehearsal, not yet run, of a pipeline that a test has written."""
    record = Record(folder, "tiny")
    compiler.Compiler().compile(pipeline, str(record.folder / PIPELINE))
    return record


def no_servers(*_: object) -> Services:
    return Services({"GREETING": "hello", "PASSWORD": SECRET}, (SECRET,))


if __name__ == "__main__":
    folder, code, servers = sys.argv[1:]
    try:
        status = perform(record_of(Path(folder), code), serve if servers == "servers" else no_servers)
    except KeyboardInterrupt as error:
        status = report_failure("rehearse", error)
    sys.exit(status)
