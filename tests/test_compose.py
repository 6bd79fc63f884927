"""docker/compose.yaml: the compose specification, read strictly, and what docs/deploy.md promises of it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from pipelines.containers.mlflow_image import LATEST
from tests.conftest import ROOT
from tests.manifests import DEPLOY
from tests.team_stack import server_options

COMPOSE = ROOT / "docker" / "compose.yaml"
SECRET = re.compile(r"PASSWORD|SECRET|ACCESS_KEY")


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    assert len(found) == 3
    return found


def test_the_compose_file_keeps_the_compose_specification() -> None:
    from compose_spec import PyCompose

    compose = PyCompose.from_yaml(COMPOSE.read_text())
    compose.validate()
    assert set(compose.service_names()) == set(services())


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("    read_only: true", "    readonly: true"),
        ("    read_only: true", "    read_only: perhaps"),
    ],
)
def test_a_mistake_in_it_is_found(line: str, instead: str) -> None:
    from compose_spec import PyCompose

    text = COMPOSE.read_text()
    assert line in text
    with pytest.raises(ValueError, match=r"readonly|perhaps"):
        PyCompose.from_yaml(text.replace(line, instead)).validate()


def test_no_password_has_a_default_and_all_come_from_the_file_that_git_ignores() -> None:
    asked = set()
    for service in services().values():
        for name, value in service["environment"].items():
            if SECRET.search(name):
                (found,) = re.findall(r"^\$\{(\w+):\?docker/\.env must set it\}$", value)
                asked.add(found)
    assert asked == {"PGPASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    made = re.search(r"for name in ([\w ]+); do", (ROOT / "docs/deploy.md").read_text())
    assert made and set(made[1].split()) == asked
    for ignored in (".gitignore", "docker/Dockerfile.dockerignore", "docker/mlflow.Dockerfile.dockerignore"):
        assert "docker/.env" in (ROOT / ignored).read_text().splitlines()


def test_every_service_is_confined_healthy_and_heard_on_this_machine_alone() -> None:
    for service in services().values():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["healthcheck"]["test"][0] == "CMD" and "privileged" not in service
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert any(place.startswith("/tmp:") for place in service["tmpfs"])
    used = {volume.partition(":")[0] for one in services().values() for volume in one.get("volumes", [])}
    assert used == yaml.safe_load(COMPOSE.read_text())["volumes"].keys()
    waited = services()["mlflow"]["depends_on"]
    assert waited == {name: {"condition": "service_healthy"} for name in ("postgres", "s3")}


def test_the_server_is_the_clusters_with_its_options_and_its_database() -> None:
    server, images = services()["mlflow"], (DEPLOY / "site/kustomization.yaml").read_text()
    assert server["image"] == LATEST
    (options,) = server["env_file"]
    assert (COMPOSE.parent / options).resolve() == DEPLOY / "mlflow/server.env"
    assert not server["environment"].keys() & server_options().keys(), "an option that only one of them has"
    name, _, tag = services()["postgres"]["image"].partition(":")
    assert f"newName: {name}\n    newTag: {tag}\n" in images
