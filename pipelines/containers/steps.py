"""A compiled pipeline run here under the rules of Kubeflow's driver and launcher, with every step recorded.

The rules are in `backend/`; this is where a task's rules, its container and its record come together.
"""

from __future__ import annotations

import json
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.containers.backend import dag, driver, kubelet, launcher, pod
from pipelines.containers.backend.driver import Execution, Job, Json
from pipelines.containers.backend.values import as_value, json_text
from pipelines.containers.docker_api import OWNER, StepFailed, engine_explained, told
from pipelines.containers.record import Record

if TYPE_CHECKING:
    from docker import DockerClient

LAST_LINES = 20
# How long a step's output may be held by others after it has ended.
PATIENCE_SECONDS = 10.0
# Where Kubeflow keeps artifacts unless an administrator says otherwise (config/env.go, DefaultPipelineRoot).
_ROOT = "minio://mlpipeline/v2/artifacts"
# Labels of a pod that tell the run, and the workflow that it is for Argo.
_RUN_FIELDS = ("metadata.labels['pipeline/runid']", "metadata.labels['workflows.argoproj.io/workflow']")


class Log:
    """What is shown goes into a file too; the given words are starred out in both."""

    def __init__(self, path: Path, secrets: tuple[str, ...] = ()) -> None:
        self.path = path
        self.secrets = secrets

    def say(self, line: str) -> None:
        for secret in sorted(self.secrets, key=len, reverse=True):  # one may begin with another
            line = line.replace(secret, "***")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)


@dataclass
class Steps:
    """Runs the steps of one rehearsal; `offered` is what secrets and the cluster may lend to them."""

    client: DockerClient
    record: Record
    log: Log
    spec: Json
    kubernetes: dict[str, Json]
    offered: dict[str, str]
    last_lines: dict[str, deque[str]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    _recorded: dict[str, Json] = field(default_factory=dict)

    def run(self) -> None:
        """Runs the pipeline. Raises StepFailed when a step fails, without the retries of a cluster."""
        run = self.record.run
        name = self.spec["pipelineInfo"]["name"]
        created = run["started"].replace("+00:00", "Z")
        self.job = Job(name, run["id"], created, f"{_ROOT}/{name}/{run['id']}")
        dag.run(self.spec, self.job, run["arguments"], self._step, self.log.say, self.skipped)

    def _step(self, name: str, component: Json, parameters: Json, artifacts: dict[str, Json]) -> Execution:
        """One task's container, recorded whatever becomes of it."""
        container = self.spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        self.log.say(f"── {name}")
        self.last_lines[name] = deque(maxlen=LAST_LINES)
        inputs = {port: self._recorded[artifact["uri"]] for port, artifact in artifacts.items()}
        self.record.begin(name, container["image"], parameters, inputs)
        with self._ends_recorded():
            return self._perform(name, component, container, parameters, artifacts)

    @contextmanager
    def _ends_recorded(self) -> Iterator[None]:
        try:
            with engine_explained():
                yield
        except StepFailed as failure:
            self.record.end("failed", error=str(failure), exit_code=failure.exit_code)
            raise
        except BaseException as error:
            state = "failed" if isinstance(error, Exception) else "interrupted"
            self.record.end(state, error=type(error).__name__)
            raise

    def _perform(
        self, name: str, component: Json, container: Json, parameters: Json, artifacts: dict[str, Json]
    ) -> Execution:
        task_root = f"{self.job.root}/{name}/{uuid.uuid4()}"
        asked = {
            "inputs": {
                "parameterValues": parameters,
                "artifacts": {port: {"artifacts": [each]} for port, each in artifacts.items()},
            },
            "outputs": driver.provision(component, task_root),
        }
        made = self._pod(name, component, container)
        asked, words = self._command(component, container, asked, made.environment)
        try:
            report = made.run(
                self.client, plan_of(asked, words, self.job.root), lambda line: self._tell(name, line)
            )
            return self._outcome(component, asked, report, made)
        finally:
            made.remove(self.client)

    def _pod(self, name: str, component: Json, container: Json) -> pod.Pod:
        kubernetes = self.kubernetes.get(component["executorLabel"], {})
        fields = dict.fromkeys(_RUN_FIELDS, self.job.run_id)
        fields["metadata.name"] = f"{self.job.run_id}-{name}"
        of_secrets = pod.of_secrets(self.kubernetes)
        everywhere = {key: value for key, value in self.offered.items() if key not in of_secrets}
        everywhere |= {"KFP_POD_NAME": fields["metadata.name"], "KFP_POD_UID": str(uuid.uuid4())}
        told_by = pod.environment(container, kubernetes, self.offered, everywhere, fields)
        folder = self.record.folder.absolute()
        options = {"labels": {OWNER: self.record.run["owner"]}}
        return pod.Pod(
            folder / "pods" / name,
            folder / "artifacts",
            folder / "volumes",
            container,
            kubernetes,
            told_by,
            PATIENCE_SECONDS,
            options,
        )

    def _command(
        self, component: Json, container: Json, asked: Json, environment: dict[str, str]
    ) -> tuple[Json, list[str]]:
        """The executor input and the words as they come through driver, kubelet and launcher."""
        parameters = asked["inputs"]["parameterValues"]
        words = [*container.get("command", []), *container.get("args", [])]
        words = driver.pod_arguments(words, parameters)
        # The executor input stands in the pod's command too (driver/driver.go:320-337).
        text, *words = kubelet.expand_words(
            [json_text(asked, escape=False), *words], environment, self.log.secrets
        )
        try:
            asked = as_value(json.loads(text))
        except ValueError:
            raise StepFailed("Kubernetes' $(NAME) in a parameter breaks its executor input") from None
        return asked, launcher.command(words, asked, component)

    def _outcome(self, component: Json, asked: Json, report: Json, made: pod.Pod) -> Execution:
        """What the step leaves for the next ones. Raises StepFailed for whatever the launcher fails for."""
        code = report["exit_code"]
        if report["failure"]:
            raise StepFailed(report["failure"], code)
        if code:
            code = 128 - code if code < 0 else code
            seen = "" if code == 1 else "; a cluster is told exit code 1"
            raise StepFailed(told(code) + seen, code)
        said = launcher.executor_output(report["executor_output"])
        results = launcher.output_parameters(component, said, report["parameters"])
        artifacts = launcher.output_artifacts(asked["outputs"], said)
        declared = component.get("outputDefinitions", {}).get("artifacts", {})
        numbered = enumerate(declared, len(self._recorded) + 1)
        published = {port: launcher.published(artifacts[port], number) for number, port in numbered}
        recorded = {port: self._keep(port, artifacts[port], made) for port in declared}
        if missing := [
            port for port, each in recorded.items() if not each["sha256"] and not _is_metadata(each)
        ]:
            raise StepFailed(f"it exited with 0 but wrote nothing to its output {', '.join(missing)}", 0)
        self.record.end("succeeded", exit_code=0, outputs=recorded, results=results)
        self.log.say(f"── {self.record.steps[-1]['name']}: {self.record.steps[-1]['seconds']:.1f} s")
        return Execution("COMPLETE", results, published)

    def _keep(self, port: str, artifact: Json, made: pod.Pod) -> Json:
        """Puts an output into the store and writes it down."""
        path = self.record.artifacts.absolute() / artifact["uri"].removeprefix(f"{self.job.root}/")
        made.take(port, path)
        kind = artifact["type"]["schemaTitle"]
        recorded = self.record.artifact(path, kind, artifact["metadata"])
        if not _has_content(path):
            recorded["sha256"] = ""
        self._recorded[artifact["uri"]] = recorded
        return recorded

    def _tell(self, step: str, line: str) -> None:
        line = line.rstrip("\r").rpartition("\r")[2]  # a progress bar's last state
        self.last_lines[step].append(line)
        self.log.say(f"[{step}] {line}")


def plan_of(asked: Json, words: list[str], root: str) -> Json:
    """What `in_pod.py` is to do: inputs, folders, the command, and where its outputs will lie.

    `root` is the address of the store, before the names of its artifacts.
    """
    outputs = asked["outputs"]
    files = [each["outputFile"] for each in outputs["parameters"].values()]
    artifacts = {
        port: driver.local_path(listed["artifacts"][0]["uri"])
        for port, listed in outputs["artifacts"].items()
    }
    inputs = [listed["artifacts"][0]["uri"] for listed in asked["inputs"]["artifacts"].values()]
    return {
        "words": words,
        "inputs": [[pod.stored_at(uri, root), driver.local_path(uri)] for uri in inputs],
        "folders": sorted({str(Path(path).parent) for path in [*files, *artifacts.values()]}),
        "executor_output": outputs["outputFile"],
        "parameters": {name: each["outputFile"] for name, each in outputs["parameters"].items()},
        "outputs": [[path, pod.uploaded_to(port)] for port, path in artifacts.items() if port != driver.LOGS],
    }


def _is_metadata(recorded: Json) -> bool:
    return recorded["type"] in launcher.METADATA_ONLY and bool(recorded["metadata"])


def _has_content(path: Path) -> bool:
    files = path.rglob("*") if path.is_dir() else [path]
    return any(file.is_file() and file.stat().st_size for file in files)
