"""deploy/: who reaches whom, who may do what, and what it asks of the cluster's administrator."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.manifests import (
    VERSIONS,
    WHOLE,
    Manifest,
    everything,
    only,
    only_workload,
    overlay,
    pod_template,
    problems,
    rendered,
    selects,
    workloads,
)


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
    # With another limit than 0, `Always` would try DAGs again too: 81 pods, not 3 (docs/deploy.md).
    assert after["templateDefaults"].pop("retryStrategy") == {"limit": "0", "retryPolicy": "Always"}
    del before["templateDefaults"]["retryStrategy"]
    assert after == before


def overlay_with(folder: Path, manifest: Manifest) -> list[Manifest]:
    (folder / "own" / "theirs.yaml").write_text(yaml.safe_dump(manifest))
    return overlay(folder, resources=["theirs.yaml"], components=["../deploy/argo"])
