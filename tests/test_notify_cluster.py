"""Kubeflow's exit task: what it is compiled to, what it finds out and tells, without MLflow installed."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kfp import compiler

from components.command import step_named
from components.steps import STEPS
from pipelines.cluster.replay import _parameter
from pipelines.kubeflow import pipeline_of, section_text
from pipelines.spec import tasks_in
from retrainer.__main__ import parser
from retrainer.contract import contract_of
from retrainer.errors import UserError
from retrainer.services import runs_over_rest
from retrainer.services.workflow import Failure, failed_step
from retrainer.settings import Cluster, Retrain
from tests import webhook_server as ways
from tests.compiled_pipelines import IMAGES, LIGHT_IMAGE, container_of, defaults, documents
from tests.conftest import ROOT
from tests.kubernetes_api import TOKEN, kubernetes, node, record_of
from tests.mlflow_server import free_port, running_server
from tests.webhook_server import CANARY, receiver

RUN_ID = "0f3c9a1e-5b7d-4c1e-9f00-aa11bb22cc33"
HANDLER = "root.exit-handler-1"
REAL = "root(0).exit-handler-1(0)"
FAILED_TRAIN = (
    node(HANDLER, "Failed"),
    node(f"{HANDLER}.ingest", "Succeeded"),
    node(f"{HANDLER}.train", "Failed", message="child 'x' failed"),
    node(f"{HANDLER}.train.executor", "Failed", "Retry", "No more retries left"),
    node(
        f"{HANDLER}.train.executor(0)", "Failed", "Pod", "main: Error (exit code 1)", "2026-11-26T03:00:00Z"
    ),
    node(
        f"{HANDLER}.train.executor(1)", "Failed", "Pod", "OOMKilled (exit code 137)", "2026-11-26T04:00:00Z"
    ),
    node(f"{HANDLER}.evaluate-driver", "Omitted"),
)


# --- compiled ------------------------------------------------------------------------------------------


def compiled(folder: Path, **cluster: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    path = folder / "pipeline.yaml"
    asked = defaults() | {"retrain": Retrain(policy="drift").plain()}
    pipeline = pipeline_of("some-recipe", asked, IMAGES, Cluster(**cluster))
    compiler.Compiler().compile(pipeline, str(path))
    spec, platform = documents(path.read_text())
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def test_without_a_webhook_there_is_no_exit_task(tmp_path: Path) -> None:
    spec, _ = compiled(tmp_path)
    assert set(tasks_in(spec)) == set(STEPS)


def test_with_one_the_exit_task_guards_every_step(tmp_path: Path) -> None:
    spec, pods = compiled(tmp_path, webhook_secret="chat", mlflow_secret="mlflow", storage_secret="s3")
    tasks = spec["root"]["dag"]["tasks"]
    assert set(tasks) == {"exit-handler-1", "notify"}
    assert set(tasks_in(spec)) == {*STEPS, "notify"}
    assert tasks["notify"]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert tasks["notify"]["dependentTasks"] == ["exit-handler-1"]
    given = tasks["notify"]["inputs"]["parameters"]
    assert given["status"] == {"taskFinalStatus": {"producerTask": "exit-handler-1"}}
    assert given["began"] == {"runtimeValue": {"constant": "{{$.pipeline_job_create_time_utc}}"}}

    container = container_of(spec, "notify")
    assert container["image"] == LIGHT_IMAGE
    assert container["command"] == ["python", "-m", "retrainer", "notify"]
    told = parser().parse_args(["notify", *container["args"]])
    assert (told.recipe, told.model, told.steps) == ("some-recipe", "model", ",".join(STEPS))
    assert (told.status, told.began) == (
        "{{$.inputs.parameters['status']}}",
        "{{$.inputs.parameters['began']}}",
    )

    secrets = {one["secretName"]: one for one in pods["exec-notify"]["secretAsEnv"]}
    assert set(secrets) == {"chat", "mlflow"}, "it needs no key to S3"
    assert secrets["chat"]["optional"] is True
    assert not any("chat" in str(pods[f"exec-{step}"]) for step in STEPS), "and the steps none to the chat"
    paths = {one["name"]: one["fieldPath"] for one in pods["exec-notify"]["fieldPathAsEnv"]}
    assert paths["RETRAINER_WORKFLOW"] == "metadata.labels['workflows.argoproj.io/workflow']"


def test_a_guarded_step_can_still_be_replayed(tmp_path: Path) -> None:
    """Its task and its settings are found where kfp puts them then."""
    spec, _ = compiled(tmp_path, webhook_secret="chat")
    nobody = SimpleNamespace(runtime_config=None)
    assert set(STEPS) <= set(tasks_in(spec))
    for step in STEPS:
        given = tasks_in(spec)[step]["inputs"]["parameters"]
        found = {name: _parameter(entry, spec, nobody) for name, entry in given.items()}
        for name in contract_of(step_named(step)).sections:
            wanted = Retrain(policy="drift").plain() if name == "retrain" else defaults()[name]
            assert found[name] == section_text(wanted)


# --- which step failed ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "failure"),
    [
        (FAILED_TRAIN, Failure("train", 137, "out of memory")),
        (
            (node(f"{HANDLER}.ingest-driver", "Error", "Pod", "secret 'x' of Jane Doe"),),
            Failure("ingest", None, ""),
        ),
        (
            (
                node(f"{HANDLER}.train", "Failed"),
                node(
                    f"{HANDLER}.train.executor",
                    "Failed",
                    "Pod",
                    "Pod was active on the node longer than the specified deadline",
                ),
            ),
            Failure("train", None, "out of time"),
        ),
        (
            (
                node(f"{HANDLER}.evaluate", "Failed"),
                node(f"{HANDLER}.evaluate.executor", "Failed", "Pod", "Step exceeded its deadline"),
            ),
            Failure("evaluate", None, "terminated"),
        ),
        (
            (
                node(f"{HANDLER}.register", "Failed"),
                node(f"{HANDLER}.register.executor", "Error", "Pod", "pod deleted"),
            ),
            Failure("register", None, "pod lost"),
        ),
        (  # as a real cluster names them, where the administrator's default lets Argo retry DAGs too
            (
                node(f"{REAL}.ingest", "Failed", "Retry"),
                node(f"{REAL}.ingest(0)", "Failed"),
                node(f"{REAL}.ingest(0).executor", "Failed", "Retry", "main: Error (exit code 1)"),
                node(f"{REAL}.ingest(0).executor(0)", "Failed", "Pod", "main: Error (exit code 1)"),
            ),
            Failure("ingest", 1, ""),
        ),
        (
            (
                node(f"{REAL}.ingest-driver", "Failed", "Retry"),
                node(f"{REAL}.ingest-driver(0)", "Error", "Pod", "pod deleted"),
            ),
            Failure("ingest", None, "pod lost"),
        ),
        (
            (
                node(f"{HANDLER}.train", "Succeeded"),
                node(f"{HANDLER}.train.executor(0)", "Failed", "Pod", "x"),
            ),
            None,
        ),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_argos_record_says_which_step_failed(
    nodes: tuple[dict[str, Any], ...],
    failure: Failure | None,
    compressed: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = record_of(*nodes)
    if compressed:
        packed = gzip.compress(json.dumps(record["status"].pop("nodes")).encode())
        record["status"]["compressedNodes"] = base64.b64encode(packed).decode()
    with kubernetes(tmp_path, record) as (account, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert failed_step(STEPS, account) == failure


def test_a_run_that_a_person_ends_is_known_by_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = node(f"{REAL}.train(0).executor(0)", "Failed", "Pod", "main: Error (exit code 143)")
    record = record_of(node(f"{REAL}.train", "Failed", "Retry"), killed)
    for deadline, cause in ((0, "terminated"), (3600, "")):
        record["spec"] = {"activeDeadlineSeconds": deadline}
        folder = tmp_path / str(deadline)
        folder.mkdir()
        with kubernetes(folder, record) as (account, environment):
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            assert failed_step(STEPS, account) == Failure("train", 143, cause)


def test_a_record_that_cannot_be_read_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no access"):
        failed_step(STEPS, tmp_path)
    with kubernetes(tmp_path, {}) as (account, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UserError, match=r"HTTP 403; let .* get workflows") as refused:
            failed_step(STEPS, account)
        assert TOKEN not in str(refused.value)
    with pytest.raises(UserError, match="does not answer"):
        failed_step(STEPS, account)
    offloaded = tmp_path / "offloaded"
    offloaded.mkdir()
    with kubernetes(offloaded, {"status": {"offloadNodeStatusVersion": "fnv:1"}}) as (account, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UserError, match="database of its own"):
            failed_step(STEPS, account)


# --- the whole command, as the pod runs it -------------------------------------------------------------

# Makes the packages that the light image lacks absent here too.
LIGHT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"mlflow", "torch", "transformers", "sklearn", "kfp", "pandas", "scipy"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from pathlib import Path
from retrainer.services import workflow
from retrainer.notify import cluster
account, *rest = sys.argv[1:]
cluster.failed_step = lambda steps: workflow.failed_step(steps, Path(account))
from dataclasses import replace
cluster.tell.__defaults__ = (replace(cluster.PATIENCE, first_wait=0.0, tries=2, total_seconds=20.0),)
from retrainer.__main__ import main
sys.exit(main(rest))
"""


class Pod:
    """A pod of the exit task: its MLflow, and its environment."""

    def __init__(self, uri: str, model: str) -> None:
        from mlflow import MlflowClient

        self.uri, self.model = uri, model
        self.mlflow = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self.experiment = self.mlflow.create_experiment(model)
        self.mlflow.create_registered_model(model)

    def evaluated(self, sha256: str, verdict: str = "champion", run_id: str = RUN_ID) -> str:
        tags = {
            "retrainer.step": "evaluate",
            "kfp_run_id": run_id,
            "model_sha256": sha256,
            "verdict": verdict,
        }
        return str(self.mlflow.create_run(self.experiment, tags=tags).info.run_id)

    def registered(self, sha256: str, evaluation: str) -> str:
        place = self.mlflow.get_run(evaluation).info.artifact_uri
        tags = {"model_sha256": sha256, "verification": "passed", "evaluation_run_id": evaluation}
        tags |= {
            "gate.rule.comparison": "holds: 0.003, bound 0.05",
            "gate.rule.who_Jane": "fails: 0.1, bound 0.7",
        }
        made = self.mlflow.create_model_version(self.model, f"{place}/model", evaluation, tags=tags)
        return str(made.version)

    def promoted(self, version: str, how: str = "register", when: str = "2026-11-26T03:00:30+00:00") -> None:
        move = {
            "how": how,
            "who": "w",
            "when": when,
            "before": "",
            "to": version,
            "why": "",
            "verdict": "champion",
        }
        moment = when[:19].replace("-", "").replace(":", "")
        key = f"retrainer.move.{moment}.000000-0000000{version}"
        told = json.dumps(move | {"process": "p:1:1", "state": "done"})
        self.mlflow.set_registered_model_tag(self.model, key, told)
        self.mlflow.set_registered_model_alias(self.model, "champion", version)

    def run(
        self, state: str, *, account: str = "/nowhere", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        status = json.dumps({"state": state, "error": {}, "pipelineTaskName": "exit-handler-1"})
        command = ["notify", "--recipe", "mine", "--model", self.model, "--steps", ",".join(STEPS)]
        command += ["--status", status, "--began", "2026-11-26T03:00:00Z"]
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        kept |= {"MLFLOW_TRACKING_URI": self.uri, "MLFLOW_EXPERIMENT_NAME": self.model}
        return subprocess.run(
            [sys.executable, "-c", LIGHT, account, *command],
            cwd=ROOT,
            env=kept | {"RETRAINER_KFP_RUN_ID": RUN_ID} | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_server(tmp_path_factory.mktemp("mlflow")) as uri:
        yield uri


@pytest.fixture
def cluster(server: str, request: pytest.FixtureRequest) -> Pod:
    return Pod(server, f"m-{abs(hash(request.node.name))}")


def told_by(cluster: Pod, state: str, **environment: str) -> dict[str, Any]:
    with receiver() as chat:
        done = cluster.run(state, RETRAINER_WEBHOOK=chat.url, **environment)
    assert done.returncode == 0, done.stderr
    printed = done.stdout + done.stderr
    assert "was delivered" in printed and CANARY not in printed
    (body,) = chat.got
    assert body["kfp_run_id"] == RUN_ID and body["recipe"] == "mine" and "Jane" not in json.dumps(body)
    return body


@pytest.mark.slow
def test_a_promotion_is_told_with_its_figures(cluster: Pod) -> None:
    evaluation = cluster.evaluated("a")
    cluster.promoted(cluster.registered("a", evaluation))
    body = told_by(cluster, "COMPLETE")
    assert (body["event"], body["version"], body["champion"]) == ("promoted", "1", "1")
    assert body["link"] == f"{cluster.uri}/#/runs/{evaluation}"
    assert [rule["rule"] for rule in body["rules"]] == [
        "comparison with the champion",
        "slices below their floor",
    ]
    assert body["seconds"] > 0 and body["step"] is None
    assert told_by(cluster, "COMPLETE")["id"] == body["id"], "a pod that is tried again says the same"


@pytest.mark.slow
def test_a_refused_model_is_told_with_its_reasons(cluster: Pod) -> None:
    cluster.promoted(
        cluster.registered("a", cluster.evaluated("a", run_id="another")), when="2026-10-26T03:00:30+00:00"
    )
    cluster.registered("b", cluster.evaluated("b", "challenger"))
    body = told_by(cluster, "COMPLETE")
    assert (body["event"], body["version"], body["champion"]) == ("refused", "2", "1")
    assert body["verdict"] == "challenger"


@pytest.mark.slow
def test_the_same_model_again_is_no_promotion(cluster: Pod) -> None:
    first = cluster.registered("a", cluster.evaluated("a", run_id="another"))
    cluster.promoted(first, when="2026-10-26T03:00:30+00:00")
    cluster.evaluated("a")
    body = told_by(cluster, "COMPLETE")
    assert (body["event"], body["version"], body["step"]) == ("nothing-new", "1", "register")
    assert body["rules"] == [], "the tags of that version tell of another judgement"


@pytest.mark.slow
@pytest.mark.parametrize(("state", "decided"), [("COMPLETE", "nothing-new"), ("RUNNING", "no-drift")])
def test_a_run_without_new_data_is_told_as_such(cluster: Pod, state: str, decided: str) -> None:
    """Kubeflow's metadata may call a run RUNNING whose condition held the rest of the steps back."""
    cluster.promoted(cluster.registered("a", cluster.evaluated("a", run_id="another")))
    cluster.mlflow.create_run(cluster.experiment, tags={"retrainer.decision": decided, "kfp_run_id": RUN_ID})
    body = told_by(cluster, state)
    assert (body["event"], body["champion"], body["step"]) == ("nothing-new", "1", "decide")


@pytest.mark.slow
def test_a_failure_with_its_step(cluster: Pod, tmp_path: Path) -> None:
    with kubernetes(tmp_path, record_of(*FAILED_TRAIN)) as (account, environment):
        body = told_by(cluster, "FAILED", account=str(account), **environment)
    assert (body["event"], body["step"], body["exit_status"]) == ("failed", "train", 137)
    assert body["text"].startswith("mine: train failed (out of memory, exit status 137)")


@pytest.mark.slow
def test_a_failure_after_the_version_was_registered_is_a_failure(cluster: Pod) -> None:
    cluster.promoted(cluster.registered("a", cluster.evaluated("a")))
    assert told_by(cluster, "FAILED")["event"] == "failed"


@pytest.mark.slow
def test_a_lost_pod_is_a_failure_though_kubeflow_calls_it_running(cluster: Pod) -> None:
    body = told_by(cluster, "RUNNING")
    assert body["event"] == "failed" and body["step"] is None


@pytest.mark.slow
def test_without_mlflow_a_success_is_told_as_far_as_it_is_known(cluster: Pod) -> None:
    cluster.uri = f"http://user:{CANARY}@127.0.0.1:{free_port()}"
    assert told_by(cluster, "COMPLETE")["event"] == "finished"


@pytest.mark.slow
def test_what_is_not_delivered_waits_in_mlflow_and_the_next_run_sends_it(cluster: Pod) -> None:
    with receiver(ways.status(500)) as broken:
        done = cluster.run("FAILED", RETRAINER_WEBHOOK=broken.url)
    assert done.returncode == 0, "a notification fails no run"
    assert "'failed' was not delivered (HTTP 500, tried 2 times); kept in MLflow" in done.stderr
    assert CANARY not in done.stdout + done.stderr
    (kept,) = cluster.mlflow.search_runs(
        [cluster.experiment], "tags.`retrainer.notification.delivered` = 'no'"
    )
    assert kept.info.status == "FAILED" and kept.info.run_name == "notify"
    assert CANARY not in json.dumps(kept.to_dictionary())

    with receiver() as chat:
        done = cluster.run("FAILED", RETRAINER_WEBHOOK=chat.url, RETRAINER_KFP_RUN_ID="1234")
    assert "'failed' was delivered; older ones delivered: 1" in done.stdout
    assert [body["kfp_run_id"] for body in chat.got] == ["1234", RUN_ID]
    assert cluster.mlflow.get_run(kept.info.run_id).info.status == "FINISHED"
    with receiver() as chat:
        cluster.run("FAILED", RETRAINER_WEBHOOK=chat.url)
    assert len(chat.got) == 1, "it is sent once"


@pytest.mark.slow
def test_with_neither_webhook_nor_mlflow_the_exit_task_fails_and_says_so(cluster: Pod) -> None:
    cluster.uri = f"http://127.0.0.1:{free_port()}"
    done = cluster.run("FAILED", RETRAINER_WEBHOOK=f"http://127.0.0.1:{free_port()}/{CANARY}")
    assert done.returncode == 1 and "it is LOST" in done.stderr and CANARY not in done.stderr


@pytest.mark.slow
def test_a_secret_that_is_absent_is_noticed(cluster: Pod) -> None:
    done = cluster.run("COMPLETE")
    assert done.returncode == 2 and "cluster.webhook_secret" in done.stderr


@pytest.mark.slow
def test_runs_are_found_only_in_an_experiment_that_exists(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "never made")
    assert runs_over_rest.search(server, {"a": "b"}) == []
    run_id = runs_over_rest.create(server, "notify", {"a": "b"}, "FAILED")
    assert [run.run_id for run in runs_over_rest.search(server, {"a": "b"})] == [run_id]
