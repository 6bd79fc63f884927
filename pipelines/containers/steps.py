"""A compiled pipeline through `kfp.local`, with every step recorded and no failure lost.

Two functions of kfp.local are replaced while a pipeline runs: the one that runs a container, and the one
around it that runs a step. The latter does what Kubeflow's launcher does in a pod and kfp.local leaves out:
it makes the outputs' parent directories, and merges a step's metadata into its declared outputs.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pipelines.containers.docker_api import HARDENED, OWNER, StepFailed, engine_explained, run, told
from pipelines.containers.record import Record

if TYPE_CHECKING:
    from docker import DockerClient

LAST_LINES = 20
# Kubeflow keeps these as metadata alone; every other kind of artifact must have content.
_METADATA_ONLY = {"system.Metrics", "system.ClassificationMetrics", "system.SlicedClassificationMetrics"}


class Log:
    """What is shown goes into a file too; the given words are starred out in both."""

    def __init__(self, path: Path, secrets: tuple[str, ...] = ()) -> None:
        self.shown: IO[str] = sys.stdout  # kept, as kfp's own chatter is led elsewhere
        self.path = path
        self.secrets = secrets

    def say(self, line: str) -> None:
        for secret in self.secrets:
            line = line.replace(secret, "***")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self.shown.write(line + "\n")
        self.shown.flush()


class Steps:
    """Runs the steps of one rehearsal."""

    def __init__(self, client: DockerClient, record: Record, log: Log) -> None:
        self.client = client
        self.record = record
        self.log = log
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._labels = {OWNER: record.run["owner"]}
        self._memory = ""

    def run(self, environment: dict[str, str], workspace: Path) -> None:
        """Runs `pipeline.yaml`. Raises StepFailed when a step fails, without the retries of a cluster."""
        from kfp import components, local
        from kfp.local import config

        folder = self.record.folder.absolute()
        with self._in_kfp(), (folder / "kfp.log").open("w") as chatter, redirect_stdout(chatter):
            pipeline = components.load_component_from_file(str(folder / "pipeline.yaml"))
            runner = local.DockerRunner(environment=environment, **HARDENED)
            local.init(runner, pipeline_root=str(folder / "artifacts"), workspace_root=str(workspace))
            try:
                pipeline(**self.record.run["arguments"])
            finally:
                config.LocalExecutionConfig.instance = None

    @contextmanager
    def _in_kfp(self) -> Iterator[None]:
        from kfp.local import docker_task_handler, task_dispatcher

        self._dispatch = task_dispatcher.run_single_task_implementation
        with ExitStack() as replaced, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "cpu_limit has no effect", on every step
            replaced.callback(setattr, task_dispatcher, "run_single_task_implementation", self._dispatch)
            shipped = docker_task_handler.run_docker_container
            replaced.callback(setattr, docker_task_handler, "run_docker_container", shipped)
            task_dispatcher.run_single_task_implementation = self._step
            docker_task_handler.run_docker_container = self._container
            yield

    def _step(self, **call: Any) -> tuple[dict[str, Any], Any]:
        """In place of kfp's `run_single_task_implementation`."""
        from kfp.local import status

        step, asked = call["component_name"].removeprefix("comp-"), _executor_input(call)
        container = call["executor_spec"].container
        self.log.say(f"── {step}")
        self.last_lines.clear()
        self._memory = container.resources.resource_memory_limit
        self._begin(step, container.image, asked, call["component_spec"])
        try:
            with engine_explained(), _outputs_explained():
                self._dispatch(**call)
                outputs = _outputs(asked, call["component_spec"])
            self._end(outputs)
        except StepFailed as failure:
            self.record.end("failed", error=str(failure), exit_code=failure.exit_code)
            raise
        except BaseException as error:
            state = "failed" if isinstance(error, Exception) else "interrupted"
            self.record.end(state, error=type(error).__name__)
            raise
        return outputs, status.Status.SUCCESS

    def _begin(self, step: str, image: str, asked: Any, spec: Any) -> None:
        from kfp.local import executor_input_utils

        plain = executor_input_utils.executor_input_to_dict(asked, spec).get("inputs", {})
        inputs = {
            port: self.record.artifact(
                Path(artifact["uri"]), artifact["type"]["schemaTitle"], artifact.get("metadata", {})
            )
            for port, listed in plain.get("artifacts", {}).items()
            for artifact in listed["artifacts"]
        }
        self.record.begin(step, image, plain.get("parameterValues", {}), inputs)
        _make_folders(asked)

    def _end(self, outputs: dict[str, Any]) -> None:
        from kfp import dsl

        made = {port: value for port, value in outputs.items() if isinstance(value, dsl.Artifact)}
        self.record.end(
            "succeeded",
            exit_code=0,
            outputs={
                port: self.record.artifact(Path(made[port].uri), made[port].schema_title, made[port].metadata)
                for port in made
            },
            results={name: value for name, value in outputs.items() if name not in made},
        )
        self.log.say(f"── {self.record.steps[-1]['name']}: {self.record.steps[-1]['seconds']:.1f} s")

    def _container(
        self, image: str, command: list[str], volumes: dict[str, Any], client: DockerClient, **options: Any
    ) -> int:
        """In place of kfp's `run_docker_container`, whose client is less patient than ours."""
        del client
        step = self.record.steps[-1]["name"]
        options |= {"volumes": volumes, "labels": self._labels, **self._limit()}
        try:
            exit_code = run(self.client, image, command, lambda line: self._tell(step, line), **options)
        finally:
            self._give_back(image, volumes)
        if exit_code:
            raise StepFailed(told(exit_code), exit_code)
        return exit_code

    def _limit(self) -> dict[str, int]:
        """The pod's memory limit, where this engine can set one."""
        from kubernetes.utils import parse_quantity

        able = self._memory and self.client.info().get("MemoryLimit")
        return {"mem_limit": int(parse_quantity(self._memory))} if able else {}

    def _give_back(self, image: str, volumes: dict[str, Any]) -> None:
        """Lets this user read and remove what the image's user wrote; root may anyway."""
        if os.geteuid() != 0:
            command = ["chmod", "-R", "a+rwX", str(self.record.artifacts.absolute())]
            run(self.client, image, command, self.last_lines.append, labels=self._labels, volumes=volumes)

    def _tell(self, step: str, line: str) -> None:
        line = line.rstrip("\r").rpartition("\r")[2]  # a progress bar's last state
        self.last_lines.append(line)
        self.log.say(f"[{step}] {line}")


def _executor_input(call: dict[str, Any]) -> Any:
    """What kfp is about to tell the step: arguments, inputs, and where the outputs go."""
    from kfp.local import executor_input_utils as utils

    task_root = utils.construct_local_task_root(
        pipeline_root=call["pipeline_root"],
        pipeline_resource_name=call["pipeline_resource_name"],
        task_resource_name=utils.get_local_task_resource_name(call["component_name"]),
    )
    return utils.construct_executor_input(
        call["component_spec"], call["arguments"], task_root, call["block_input_artifact"]
    )


def _make_folders(asked: Any) -> None:
    """The outputs' parent directories, writable for the image's user whoever that is on this machine."""
    folder = Path(asked.outputs.output_file).parent
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)


@contextmanager
def _outputs_explained() -> Iterator[None]:
    """What kfp raises on reading a step's metadata and parameters becomes a StepFailed."""
    from google.protobuf import json_format

    try:
        yield
    except (ValueError, LookupError, json_format.Error) as error:
        reason = " ".join(str(error).split())
        raise StepFailed(f"what it wrote about its outputs cannot be read: {reason}", 0) from None


def _outputs(asked: Any, spec: Any) -> dict[str, Any]:
    """Every declared output, with the metadata that the step told. Raises StepFailed for one not written."""
    from kfp.local import executor_output_utils as utils

    outputs = utils.get_outputs_for_task(asked, spec)
    missing = [name for name in asked.outputs.parameters if name not in outputs]
    for port, listed in asked.outputs.artifacts.items():
        made, said = utils.runtime_artifact_to_dsl_artifact(listed.artifacts[0]), outputs.get(port)
        if said is not None:
            made.metadata.update(said.metadata)
        if not _has_content(Path(made.uri)) and (said is None or made.schema_title not in _METADATA_ONLY):
            missing.append(port)
        outputs[port] = made
    if missing:
        raise StepFailed(f"it exited with 0 but wrote nothing to its output {', '.join(missing)}", 0)
    return outputs


def _has_content(path: Path) -> bool:
    files = path.rglob("*") if path.is_dir() else [path]
    return any(file.is_file() and file.stat().st_size for file in files)
