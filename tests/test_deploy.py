"""deploy/: every manifest holds Kubernetes' schemas strictly, and says what docs/deploy.md promises."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.manifests import (
    CUSTOM,
    DEPLOY,
    VERSIONS,
    Manifest,
    only,
    overlay,
    pod_template,
    rendered,
    selects,
    workloads,
)
from tests.team_stack import server_options

WHOLE = "."
# What can be applied by itself; the others are components.
APPLIED = (WHOLE, "mlflow", "postgres", "pipeline", "upgrade")
COMPONENTS = {"site", "mesh", "argo"}


def everything() -> list[Manifest]:
    return rendered(WHOLE) + rendered("upgrade")


def problems(manifest: Manifest, version: str) -> str:
    import kubernetes_validate

    if manifest["apiVersion"] in CUSTOM:
        return ""
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{manifest['kind']} {manifest['metadata']['name']}: {error.message}"
    return ""


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


def test_services_and_policies_find_their_pods() -> None:
    labels = {
        one["metadata"]["name"]: pod_template(one)["metadata"]["labels"] for one in workloads(everything())
    }
    for service in (one for one in rendered(WHOLE) if one["kind"] == "Service"):
        found = [name for name, own in labels.items() if service["spec"]["selector"].items() <= own.items()]
        assert found == [service["metadata"]["name"]]
        (container,) = pod_template(only_workload(found[0]))["spec"]["containers"]
        ports = {port["name"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for policy in (one for one in rendered(WHOLE) if one["kind"] == "NetworkPolicy"):
        found = [name for name, own in labels.items() if selects(policy["spec"]["podSelector"], own)]
        assert found == [policy["metadata"]["name"]]


def only_workload(name: str) -> Manifest:
    (found,) = (one for one in workloads(everything()) if one["metadata"]["name"] == name)
    return found


def test_who_may_talk_to_whom() -> None:
    step = {"workflows.argoproj.io/workflow": "retrain-x7k2p"}
    stranger = {"app": "anything"}
    server, upgrade = (
        pod_template(only_workload(name))["metadata"]["labels"]
        for name in ("mlflow-server", "mlflow-upgrade")
    )
    for name, port, let_in, kept_out in (
        ("mlflow-server", "http", [step, {"retrainer/mlflow-client": "true"}], [stranger, upgrade]),
        ("mlflow-postgres", "postgres", [server, upgrade], [stranger, step]),
    ):
        (rule,) = only(rendered(WHOLE), "NetworkPolicy", name)["spec"]["ingress"]
        assert [one["port"] for one in rule["ports"]] == [port]
        pods = [one["podSelector"] for one in rule["from"] if one.keys() == {"podSelector"}]
        assert all(any(selects(pod, labels) for pod in pods) for labels in let_in)
        assert not any(selects(pod, labels) for pod in pods for labels in kept_out)
        assert all(one for one in pods), "an empty selector lets every pod in"
    assert only(rendered(WHOLE), "NetworkPolicy", "mlflow-postgres")["spec"]["egress"] == []


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


def test_the_runner_may_read_one_secret_and_change_nothing_but_its_result() -> None:
    rules = only(rendered("pipeline"), "Role")["rules"]
    by_resource = {resource: rule for rule in rules for resource in rule["resources"]}
    assert by_resource.keys() == {"secrets", "configmaps", "pods", "workflows", "workflowtaskresults"}
    assert by_resource["secrets"]["resourceNames"] == ["mlpipeline-minio-artifact"]
    assert by_resource["configmaps"]["resourceNames"] == ["kfp-launcher"]
    changing = {name for name, rule in by_resource.items() if set(rule["verbs"]) - {"get"}}
    assert changing == {"workflowtaskresults"}


def test_a_mesh_takes_plain_requests_on_the_servers_port(tmp_path: Path) -> None:
    made = overlay(tmp_path, resources=["../deploy"], components=["../deploy/mesh"])
    server = pod_template(only(made, "Deployment"))
    assert server["metadata"]["labels"]["sidecar.istio.io/inject"] == "true"
    (port,) = server["spec"]["containers"][0]["ports"]
    policy = only(made, "PeerAuthentication")["spec"]
    assert selects(policy["selector"], server["metadata"]["labels"])
    assert policy["portLevelMtls"] == {str(port["containerPort"]): {"mode": "PERMISSIVE"}}
    allowed = only(made, "AuthorizationPolicy")["spec"]
    assert allowed["selector"] == policy["selector"] and allowed["action"] == "ALLOW"
    assert allowed["rules"] == [{"to": [{"operation": {"ports": [str(port["containerPort"])]}}]}]
    assert (
        pod_template(only_workload("mlflow-server"))["metadata"]["labels"]["sidecar.istio.io/inject"]
        == "false"
    )


# As Kubeflow Pipelines 2.17.0 installs it, but for the artifact repository.
KUBEFLOWS = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "workflow-controller-configmap", "namespace": "kubeflow"},
    "data": {
        "executor": "imagePullPolicy: IfNotPresent\n",
        "workflowDefaults": yaml.safe_dump(
            {
                "spec": {
                    "ttlStrategy": {
                        "secondsAfterCompletion": 3600,
                        "secondsAfterSuccess": 3600,
                        "secondsAfterFailure": 3600,
                    },
                    "templateDefaults": {"retryStrategy": {"limit": "2", "retryPolicy": "OnError"}},
                }
            }
        ),
    },
}


def test_the_controllers_defaults_change_in_the_policy_of_retries_alone(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    made = overlay_with(tmp_path, KUBEFLOWS)
    (patched,) = made
    assert problems(patched, VERSIONS[-1]) == ""
    assert patched["data"]["executor"] == KUBEFLOWS["data"]["executor"]
    before = yaml.safe_load(KUBEFLOWS["data"]["workflowDefaults"])["spec"]
    after = yaml.safe_load(patched["data"]["workflowDefaults"])["spec"]
    strategy = after["templateDefaults"].pop("retryStrategy")
    assert before["templateDefaults"].pop("retryStrategy")["limit"] == strategy["limit"]
    assert after == before
    # Without a policy, Argo asks the expression alone; `Always` would retry DAGs too (docs/deploy.md).
    assert strategy.keys() == {"limit", "expression"}


def overlay_with(folder: Path, manifest: Manifest) -> list[Manifest]:
    (folder / "own" / "theirs.yaml").write_text(yaml.safe_dump(manifest))
    return overlay(folder, resources=["theirs.yaml"], components=["../deploy/argo"])
