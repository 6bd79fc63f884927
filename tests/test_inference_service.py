"""The champion's server as KServe takes it: what is written, pinned, hardened, lent and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.cluster.inference_service import (
    Choice,
    inference_service,
    service_name,
    write_inference_service,
)
from pipelines.compile import images_named
from retrainer.errors import UserError
from retrainer.settings import Cluster

IMAGE = f"registry.example/team/retrainer@sha256:{'a' * 64}"
IMAGES = images_named(IMAGE)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "params.yaml").write_text("registry: {name: net}\n")
    return tmp_path


def written(project: Path, *overrides: str, **chosen: str) -> dict[str, Any]:
    choice = Choice(None, ["cluster.mlflow_secret=mlflow", *overrides], **{"version": "3", **chosen})
    made: dict[str, Any] = yaml.safe_load(write_inference_service(choice, IMAGES, project).read_text())
    return made


def test_the_file_says_which_version_and_how_it_is_asked_and_hardened(project: Path) -> None:
    made = written(project, "cluster.storage_secret=s3", "cluster.model_prefix=team-")
    assert (made["apiVersion"], made["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert made["metadata"]["name"] == "team-net"
    assert made["metadata"]["annotations"]["retrainer/model"] == "models:/team-net/3"
    predictor = made["spec"]["predictor"]
    assert predictor["automountServiceAccountToken"] is False and "canaryTrafficPercent" not in predictor
    (container,) = predictor["containers"]
    assert (container["name"], container["image"]) == ("kserve-container", IMAGE)
    assert container["command"][1:] == ["-m", "retrainer", "serve"]
    assert container["args"] == [
        "--model",
        "team-net",
        "--version",
        "3",
        "--host",
        "0.0.0.0",
        "--port",
        "8080",
        "--page-port",
        "none",
    ]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/ping", "port": 8080}
    assert container["securityContext"] == {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["resources"]["requests"] == container["resources"]["limits"]


def test_what_is_typed_is_what_the_program_takes(project: Path) -> None:
    from retrainer.__main__ import parser

    (container,) = written(project)["spec"]["predictor"]["containers"]
    taken = parser().parse_args([*container["command"][3:], *container["args"]])
    assert (taken.model, taken.version, taken.host, taken.port) == ("net", "3", "0.0.0.0", "8080")


def test_secrets_are_lent_by_name_and_only_those_that_fetch_the_model(project: Path) -> None:
    keys = "cluster.step_secrets={serve: {keys: [RETRAINER_VERIFY_KEY]}}"
    (container,) = written(project, "cluster.storage_secret=s3", keys)["spec"]["predictor"]["containers"]
    lent = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one}
    assert lent["MLFLOW_TRACKING_URI"] == {"name": "mlflow", "key": "MLFLOW_TRACKING_URI"}
    assert lent["MLFLOW_TRACKING_TOKEN"]["optional"] and lent["AWS_ACCESS_KEY_ID"]["name"] == "s3"
    assert lent["RETRAINER_VERIFY_KEY"] == {"name": "keys", "key": "RETRAINER_VERIFY_KEY"}
    assert not {"RETRAINER_DVC_REMOTE", "RETRAINER_CHECKPOINTS", "RETRAINER_WEBHOOK"} & lent.keys()


def test_each_file_names_its_mode(project: Path) -> None:
    """KServe's manifest and chart make Knative services of those that do not (v0.20.0, config/configmap/
    inferenceservice.yaml:745), and Knative refuses what only a Deployment takes."""
    for canary, mode in (("", "Standard"), ("10", "Knative")):
        annotations = written(project, canary=canary)["metadata"]["annotations"]
        assert annotations["serving.kserve.io/deploymentMode"] == mode


def test_a_plain_files_pod_ends_after_its_successor_is_ready_and_its_last_request_answered(
    project: Path,
) -> None:
    """KServe's own settings may allow no pod at all meanwhile (v0.20.0, pkg/controller/v1beta1/
    inferenceservice/reconcilers/deployment/deployment_reconciler.go:390)."""
    predictor = written(project)["spec"]["predictor"]
    assert predictor["deploymentStrategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    (command,) = predictor["containers"][0]["lifecycle"]["preStop"]["exec"].values()
    assert command[0] == "sleep"
    assert predictor["terminationGracePeriodSeconds"] > predictor["timeout"] + int(command[1])


def test_a_canary_gets_its_share_where_knative_gives_it(project: Path) -> None:
    """Without what Knative refuses (serving v0.48.1, pkg/apis/serving/fieldmask.go:292 and 334), and what
    KServe refuses beside it (v0.20.0, pkg/apis/serving/v1beta1/inference_service_validation.go:647)."""
    predictor = written(project, canary="10")["spec"]["predictor"]
    assert predictor["canaryTrafficPercent"] == 10
    assert not {"terminationGracePeriodSeconds", "deploymentStrategy"} & predictor.keys()
    assert "lifecycle" not in predictor["containers"][0]
    assert written(project, canary="0")["spec"]["predictor"]["canaryTrafficPercent"] == 0


def test_a_canary_may_take_as_long_to_start_as_its_probe_allows(project: Path) -> None:
    """Knative gives up after 600 s, the image's pull included, unless the service says otherwise
    (serving v0.48.1, pkg/deployment/config.go:48)."""
    made = written(project, canary="10")
    deadline = made["metadata"]["annotations"]["serving.knative.dev/progress-deadline"]
    probe = made["spec"]["predictor"]["containers"][0]["startupProbe"]
    assert int(deadline.removesuffix("s")) > probe["periodSeconds"] * probe["failureThreshold"]


def test_pods_are_placed_and_sized_as_the_settings_say(project: Path) -> None:
    made = written(
        project,
        "cluster.resources={serve: {cpu: 2, memory: 8Gi, memory_limit: 16Gi}}",
        "cluster.node_selector={pool: models}",
        "cluster.tolerations=[{key: team}]",
        "cluster.image_pull_secrets=[pull]",
        "cluster.labels={cost: vision}",
        "cluster.scratch=2Gi",
    )
    predictor = made["spec"]["predictor"]
    assert made["metadata"]["labels"] == {"cost": "vision"}
    assert predictor["nodeSelector"] == {"pool": "models"} and predictor["imagePullSecrets"] == [
        {"name": "pull"}
    ]
    assert predictor["tolerations"] == [{"key": "team", "operator": "Exists"}]
    assert predictor["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "2Gi"}}]
    (container,) = predictor["containers"]
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "16Gi"}
    assert {"name": "OMP_NUM_THREADS", "value": "2"} in container["env"]


@pytest.mark.parametrize(
    ("overrides", "chosen", "says"),
    [
        (["cluster.mlflow_secret=''"], {}, r"^cluster\.mlflow_secret is empty: name the Kubernetes secret"),
        ([], {"canary": "101"}, "^CANARY=101: needed is how many percent of the requests, 0 to 100$"),
        ([], {"canary": "a few"}, "^CANARY=a few: needed"),
        ([], {"version": ""}, "^MLFLOW_TRACKING_URI names no server: .* VERSION=number$"),
        (["cluster.resources={server: {cpu: 2}}"], {}, r"there is no step 'server'; did you mean 'serve'\?"),
    ],
)
def test_what_cannot_run_is_refused(
    project: Path, overrides: list[str], chosen: dict[str, str], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        written(project, *overrides, **chosen)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("net", "net"),
        ("Team_A.digits", "team-a-digits"),
        ("7digits", "model-7digits"),
        ("x" * 27, "x" * 27),
        ("x" * 60, "x" * 20 + "-42f2d9"),
    ],
)
def test_a_models_name_becomes_one_that_kubernetes_takes(name: str, expected: str) -> None:
    assert service_name(name) == expected
    assert inference_service(name, "1", IMAGE, Cluster(), None)["metadata"]["name"] == expected


def test_long_names_fit_a_host_name_and_stay_apart() -> None:
    """KServe makes NAME-predictor-NAMESPACE one label of a host name (v0.20.0, config/configmap/
    inferenceservice.yaml:696)."""
    one, other = service_name("x" * 60 + "-texts"), service_name("x" * 60 + "-photographs")
    assert one != other
    assert max(len(f"{name}-predictor-kubeflow-user-example-com") for name in (one, other)) <= 63
