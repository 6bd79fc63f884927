"""The team's stack, run: MLflow's server between PostgreSQL and S3, ended and started amid the pipeline."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.manifests import only, pod_template, rendered
from tests.postgres_server import DATABASE, PASSWORD, USER
from tests.project import RECIPE, copied, environment, steps
from tests.s3_server import SECRET
from tests.team_stack import Stack, running_stack, server_options

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack")) as made:
        yield made


def pipelines(project: Path, stack: Stack, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", *words],
        cwd=project,
        env=environment() | {"MLFLOW_TRACKING_URI": stack.uri},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}\n{stack.log.read_text()[-5000:]}"
    return done.stdout + done.stderr


def asked(stack: Stack, path: str, **headers: str) -> Any:
    request = urllib.request.Request(f"{stack.uri}/api/2.0/mlflow/{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def champion(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = asked(stack, f"registered-models/alias?name={RECIPE}&alias=champion")
    return found["model_version"]


def test_the_pipeline_outlives_restarts_of_the_server_and_its_database(
    stack: Stack, finished_project: Path, tmp_path: Path
) -> None:
    """The data are prepared already; from the training on all is told to the server."""
    project = copied(finished_project, tmp_path / "project")
    for file in project.glob("mlflow.db*"):
        file.unlink()
    other = ("--recipe", RECIPE, "--set", "training.seed=1")
    pipelines(project, stack, "step", "train", *other)
    stack.restart()
    printed = pipelines(project, stack, "pipeline", *other)
    assert steps(printed) == {"evaluate": "ran", "register": "ran"}
    made = json.loads((project / "runs" / RECIPE / "registration" / "registration.json").read_text())
    assert made["alias"] == "champion"

    stack.restart()
    version = champion(stack)
    assert version["version"] == str(made["version"]) == "1"
    tags = {tag["key"]: tag["value"] for tag in version["tags"]}
    assert tags["model_sha256"] == made["model_sha256"]
    assert [key for key in stack.stored() if key.endswith(".safetensors")]
    assert all(key.startswith("mlflow/") for key in stack.stored())
    assert stack.postgres.query("SELECT count(*) FROM model_versions") == "1"

    assert steps(pipelines(project, stack, "pipeline", *other)) == {}
    assert champion(stack) == version
    assert not list(project.glob("mlflow.db*")), "a registry of this machine's own"
    for secret in (PASSWORD, SECRET):
        assert secret not in stack.log.read_text() and secret not in printed


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("mlflow-server:5000", True),
        ("mlflow-server.team.svc:5000", True),
        ("mlflow-server.team.svc.cluster.local:5000", True),
        ("mlflow.example", False),
        ("mlflow-server.evil.example", False),
    ],
)
def test_the_server_answers_to_its_names_in_the_cluster_and_to_no_other(
    stack: Stack, host: str, allowed: bool
) -> None:
    if allowed:
        assert "experiments" in asked(stack, "experiments/search?max_results=1", Host=host)
    else:
        with pytest.raises(urllib.error.HTTPError, match="403"):
            asked(stack, "experiments/search?max_results=1", Host=host)


def test_a_dump_brings_the_registry_back(stack: Stack) -> None:
    """docs/deploy.md, "Backup"."""
    stack.client("import mlflow; print(mlflow.MlflowClient().create_registered_model('dumped').name)")
    named = "registered-models/get?name=dumped"
    before = asked(stack, named)
    dump = stack.postgres.folder / "mlflow.dump"
    stack.postgres.run("pg_dump", "--format=custom", "--username", USER, "--file", str(dump), DATABASE)
    stack.postgres.query("DELETE FROM registered_models WHERE name = 'dumped'")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        asked(stack, named)
    stack.stop_server()
    restore = ["--clean", "--if-exists", "--username", USER, "--dbname", DATABASE]
    stack.postgres.run("pg_restore", *restore, str(dump))
    stack.start_server()
    assert asked(stack, named) == before


# The tables of the MLflow version before: its first ones, and every migration but the last.
OLD_TABLES = """
import sqlalchemy
from alembic import command, script
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base
config = _get_alembic_config("postgresql+psycopg://")
engine = sqlalchemy.create_engine("postgresql+psycopg://")
Base.metadata.create_all(engine)
scripts = script.ScriptDirectory.from_config(config)
with engine.begin() as connection:
    config.attributes["connection"] = connection
    command.upgrade(config, scripts.get_revision(scripts.get_current_head()).down_revision)
"""


def test_the_upgrade_job_brings_older_tables_up_to_date(stack: Stack) -> None:
    """docs/deploy.md, "Upgrade": with the command of the job in deploy/upgrade."""
    stack.postgres.run("createdb", "old")
    old = {"PGDATABASE": "old"}
    subprocess.run(
        [sys.executable, "-c", OLD_TABLES], env=environment() | stack.postgres.environment | old, check=True
    )
    (container,) = pod_template(only(rendered("upgrade"), "Job"))["spec"]["containers"]
    assert container["command"][0] == "mlflow"
    assert stack.mlflow(*container["command"][1:], **old).wait(120) == 0
    current = "SELECT version_num FROM alembic_version"
    done = stack.postgres.run("psql", "--no-align", "--tuples-only", "--dbname=old", "--command", current)
    assert done == stack.postgres.query(current)


def test_a_server_refuses_tables_of_another_version(stack: Stack) -> None:
    stack.stop_server()
    version = stack.postgres.query("SELECT version_num FROM alembic_version")
    stack.postgres.query("UPDATE alembic_version SET version_num = 'b7e2c1a4d9f3'")
    try:
        assert stack.mlflow("server").wait(120) != 0
        assert "Detected out-of-date database schema" in stack.log.read_text()
    finally:
        stack.postgres.query(f"UPDATE alembic_version SET version_num = '{version}'")
        stack.start_server()


def test_a_secret_is_no_option_of_the_server() -> None:
    assert not [name for name in server_options() if "PASSWORD" in name or "KEY" in name or "TOKEN" in name]
