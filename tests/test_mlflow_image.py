"""The image of the team's MLflow server: what its Dockerfile and lock promise, and that it serves."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.containers.mlflow_image import DOCKERFILE, LATEST
from tests.conftest import ROOT
from tests.lock_files import pins
from tests.manifests import pod_template, rendered, workloads
from tests.team_stack import Stack, running_stack


def test_every_pin_of_the_image_is_the_main_locks() -> None:
    main, part = pins(ROOT / "requirements.lock"), pins(ROOT / "docker/mlflow.lock")
    assert {pin: hashes for pin, hashes in part.items() if main.get(pin) != hashes} == {}
    names = {name for name, _ in part}
    wanted = {
        line for line in (ROOT / "docker/mlflow.in").read_text().splitlines() if line and line[0] != "#"
    }
    assert {line.partition("[")[0] for line in wanted} <= names and "psycopg-binary" in names
    assert not names & {"torch", "kfp", "dvc"}


def test_it_stands_on_the_base_of_the_other_images_and_runs_as_the_manifests_say() -> None:
    text, others = (ROOT / DOCKERFILE).read_text(), (ROOT / "docker/Dockerfile").read_text()
    (base,) = [line for line in text.splitlines() if line.startswith("ARG BASE=")]
    assert base in others.splitlines()
    assert "--mount=type=secret,id=ca-bundle" in text and "PIP_CERT" not in text
    rules = (ROOT / f"{DOCKERFILE}.dockerignore").read_text().splitlines()
    assert [rule for rule in rules if rule[0] != "#"] == ["*", "!docker", "docker/.env"]
    for workload in workloads(rendered("mlflow") + rendered("upgrade")):
        context = pod_template(workload)["spec"]["securityContext"]
        assert f"\nUSER {context['runAsUser']}:{context['runAsGroup']}\n" in text


@pytest.fixture
def podman() -> str:
    done = subprocess.run(["podman", "image", "exists", LATEST], check=False) if _has_podman() else None
    if done is None or done.returncode != 0:
        pytest.skip(f"{LATEST} is not in podman's store: make mlflow-image")
    return "podman"


def _has_podman() -> bool:
    return subprocess.run(["sh", "-c", "command -v podman"], capture_output=True, check=False).returncode == 0


@contextmanager
def _removed(container: str) -> Iterator[None]:
    """The container outlives the program that has started it."""
    try:
        yield
    finally:
        subprocess.run(["podman", "rm", "--force", "--ignore", container], capture_output=True, check=True)


@pytest.mark.release
def test_it_serves_from_a_read_only_root_without_capabilities(podman: str, tmp_path: Path) -> None:
    """Runs and artifacts through PostgreSQL and S3, as the manifests confine the server."""

    name = f"retrainer-test-{os.getpid()}"

    def confined(stack: Stack) -> list[str]:
        limits = ["--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--security-opt=no-new-privileges"]
        given = [word for name in stack.variables() for word in ("--env", name)]
        return [podman, "run", "--rm", f"--name={name}", "--network=host", *limits, *given, LATEST, "mlflow"]

    with _removed(name), running_stack(tmp_path, confined) as stack:
        code = """
import mlflow
with mlflow.start_run() as run:
    mlflow.log_metric("accuracy", 0.5)
    mlflow.log_text("through the server", "note.txt")
assert mlflow.artifacts.load_text(run.info.artifact_uri + "/note.txt") == "through the server"
print(run.info.run_id)
"""
        run = stack.client(code)
        assert stack.postgres.query(f"SELECT value FROM metrics WHERE run_uuid = '{run}'") == "0.5"
        (note,) = stack.stored()
        assert note.startswith("mlflow/") and note.endswith("/note.txt")
        stack.stop_server()
