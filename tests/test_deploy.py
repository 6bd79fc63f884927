"""deploy/: every manifest holds Kubernetes' schemas strictly, and says what docs/deploy.md promises."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.manifests import (
    DEPLOY,
    VERSIONS,
    WHOLE,
    Manifest,
    everything,
    only,
    only_workload,
    pod_template,
    problems,
    rendered,
    workloads,
)
from tests.team_stack import server_options

# What can be applied by itself; the others are components.
APPLIED = (WHOLE, "mlflow", "postgres", "pipeline", "upgrade")
COMPONENTS = {"site", "mesh", "argo"}


def test_every_folder_is_applied_or_a_component_and_every_file_is_used() -> None:
    folders = {path.parent.relative_to(DEPLOY).as_posix() for path in DEPLOY.rglob("kustomization.yaml")}
    assert folders == {*APPLIED, *COMPONENTS}
    for folder in folders:
        said = (DEPLOY / folder / "kustomization.yaml").read_text()
        beside = {path.name for path in (DEPLOY / folder).iterdir() if path.name != "kustomization.yaml"}
        assert [name for name in beside - COMPONENTS - {"upgrade"} if name not in said] == [], folder


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", APPLIED)
def test_every_manifest_holds_kubernetes_schemas(name: str, version: str) -> None:
    assert len(rendered(name)) > 0
    assert [said for one in rendered(name) if (said := problems(one, version))] == []


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    for workload in workloads(everything()):
        spoilt = copy.deepcopy(workload)
        pod_template(spoilt)["spec"]["containers"][0]["securityContext"]["readOnlyRootFileSystem"] = True
        assert "readOnlyRootFileSystem" in problems(spoilt, VERSIONS[-1])


def test_all_of_it_is_in_one_namespace_which_stands_in_one_place() -> None:
    said = yaml.safe_load((DEPLOY / "site/kustomization.yaml").read_text())["namespace"]
    assert {one["metadata"]["namespace"] for one in everything()} == {said}
    (binding,) = (one for one in rendered(WHOLE) if one["kind"] == "RoleBinding")
    assert {subject["namespace"] for subject in binding["subjects"]} == {said}


def test_nobody_elses_image_and_none_that_floats() -> None:
    named = yaml.safe_load((DEPLOY / "site/kustomization.yaml").read_text())["images"]
    images = {f"{one['newName']}:{one['newTag']}" for one in named}
    assert {container["image"] for _, container in containers()} == images
    assert not [image for image in images if image.endswith(":latest") or "/" not in image]


def containers() -> list[tuple[Manifest, Manifest]]:
    """(pod's spec, container) of every workload."""
    found = []
    for workload in workloads(everything()):
        spec = pod_template(workload)["spec"]
        found += [(spec, container) for container in spec["containers"] + spec.get("initContainers", [])]
    assert len(found) == 3
    return found


def test_the_pod_security_standard_restricted_and_a_read_only_root() -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, level `restricted`."""
    for spec, container in containers():
        pod, own = spec["securityContext"], container["securityContext"]
        assert pod["runAsNonRoot"] is True and pod["runAsUser"] > 0
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert own == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["automountServiceAccountToken"] is False
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounted["tmp"] == "/tmp"
        assert {volume["name"] for volume in spec["volumes"]} <= mounted.keys()
        assert all(
            set(volume) == {"name", "emptyDir"} and volume["emptyDir"]["sizeLimit"]
            for volume in spec["volumes"]
        )


def test_every_container_says_what_it_needs_and_the_servers_have_probes() -> None:
    for workload in workloads(everything()):
        (container,) = pod_template(workload)["spec"]["containers"]
        resources = container["resources"]
        assert {"cpu", "memory"} <= resources["requests"].keys() and "memory" in resources["limits"]
        if workload["kind"] != "Job":
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
            ports = {port["name"] for port in container["ports"]}
            probes = [container[f"{when}Probe"] for when in ("startup", "readiness", "liveness")]
            asked = [probe.get("httpGet") or probe.get("tcpSocket") for probe in probes]
            assert {one["port"] for one in asked if one} <= ports


def test_secrets_stand_by_name_alone() -> None:
    assert not [one for one in everything() if one["kind"] == "Secret"]
    assert "secretGenerator" not in "".join(file.read_text() for file in DEPLOY.rglob("*.yaml"))
    assert set(re.findall(r"'name': '([\w-]+)'", str(secrets_of(everything())))) == {
        "mlflow-database",
        "mlflow-artifacts",
    }


def secrets_of(tree: Any) -> list[Any]:
    """Every secretRef and secretKeyRef below."""
    if isinstance(tree, list):
        return [found for part in tree for found in secrets_of(part)]
    if not isinstance(tree, dict):
        return []
    here = [tree[key] for key in ("secretRef", "secretKeyRef") if key in tree]
    return here + [found for part in tree.values() for found in secrets_of(part)]


def test_the_docs_create_every_secret_with_every_key_that_is_asked_for() -> None:
    text = (ROOT / "docs/deploy.md").read_text()
    keys = {found["key"] for found in secrets_of(everything()) if "key" in found}
    for found in secrets_of(everything()):
        assert f"create secret generic {found['name']} " in text
    for key in keys | {"PGHOST", "MLFLOW_ARTIFACTS_DESTINATION", "AWS_ACCESS_KEY_ID"}:
        assert f"{key}=" in text


def test_the_servers_options_are_server_env_and_a_change_gives_it_a_new_pod() -> None:
    options = only(rendered("mlflow"), "ConfigMap")
    assert options["data"] == server_options()
    (container,) = pod_template(only_workload("mlflow-server"))["spec"]["containers"]
    named = [source["configMapRef"]["name"] for source in container["envFrom"] if "configMapRef" in source]
    assert named == [options["metadata"]["name"]] and named[0].startswith("mlflow-server-")
    assert str(container["ports"][0]["containerPort"]) == server_options()["MLFLOW_PORT"]
    (job,) = pod_template(only_workload("mlflow-upgrade"))["spec"]["containers"]
    assert job["command"][-1] == server_options()["MLFLOW_BACKEND_STORE_URI"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*")
def test_no_service_gives_a_pod_a_variable_that_mlflow_reads() -> None:
    """Kubernetes makes NAME_PORT and more for each Service of a namespace, and steps' pods get them too."""
    from mlflow import cli, environment_variables

    read = {parameter.envvar for command in cli.cli.commands.values() for parameter in command.params}
    read |= {name for name in vars(environment_variables) if name.startswith("MLFLOW_")}
    assert "MLFLOW_PORT" in read
    for service in (one for one in rendered(WHOLE) if one["kind"] == "Service"):
        name = service["metadata"]["name"].upper().replace("-", "_")
        made = {f"{name}_{end}" for end in ("PORT", "SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP")}
        assert not made & read
