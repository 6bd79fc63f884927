"""What the driver decides before a step's pod starts: its inputs, where its outputs go, and its arguments.

Sources: kubeflow/pipelines 2.17.0, backend/src/v2. Values and artifacts are plain JSON, as in `values.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from pipelines.containers.backend.values import argument_text, plain_text
from pipelines.containers.docker_api import StepFailed

Json = dict[str, Any]
# Filled in by an older Kubeflow. 2.17 fills in none of them in a run that a schedule starts from the workflow
# that it embeds, and two in a run started by hand (backend/src/apiserver/template/v2_template.go:346-371).
MACRO = re.compile(r"\[\[(ScheduledTime|CurrentTime|RunUUID|Index)\b")
_PARAMETER = re.compile(r"\{\{\$\.inputs\.parameters\['(.+?)'\]\}\}")  # driver/util.go:45
LOGS = "executor-logs"
_KINDS = {
    "NUMBER_DOUBLE": float,
    "NUMBER_INTEGER": float,
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
    "TASK_FINAL_STATUS": dict,
}


@dataclass(frozen=True)
class Job:
    """The run, as the driver's placeholders name it. Times are UTC, as 2026-01-31T23:59:59Z."""

    pipeline: str
    run_id: str
    created: str
    root: str

    def placeholder(self, value: Any, task: str) -> Any:
        """A constant, or what it stands for: only where it is the whole text (driver/resolve.go:425-454).

        A run that no schedule started has its own time as the scheduled one (cmd/driver/main.go:262-285).
        """
        known = {
            "{{$.pipeline_job_name}}": self.run_id,
            "{{$.pipeline_job_resource_name}}": self.run_id,
            "{{$.pipeline_job_uuid}}": self.run_id,
            "{{$.pipeline_task_name}}": task,
            "{{$.pipeline_job_create_time_utc}}": self.created,
            "{{$.pipeline_job_schedule_time_utc}}": self.created,
        }
        return known.get(value, value) if isinstance(value, str) else value


@dataclass
class Execution:
    """A task as the metadata store holds it: state, output parameters, and output artifacts by port."""

    state: str = "RUNNING"
    parameters: Json = field(default_factory=dict)
    artifacts: dict[str, Json] = field(default_factory=dict)


@dataclass
class Dag(Execution):
    """A pipeline, or a group of tasks in one, with what it was given."""

    component: Json = field(default_factory=dict)
    inputs: Json = field(default_factory=dict)
    input_artifacts: dict[str, Json] = field(default_factory=dict)
    parent: Dag | None = None
    done: dict[str, Execution] = field(default_factory=dict)

    @property
    def tasks(self) -> Json:
        tasks: Json = self.component["dag"]["tasks"]
        return tasks


def root_parameters(root: Json, given: Json) -> Json:
    """The pipeline's parameters with their defaults (compiler/argocompiler/argo.go:93-104)."""
    filled = dict(given)
    for name, spec in root.get("inputDefinitions", {}).get("parameters", {}).items():
        if name not in filled:
            filled[name] = spec.get("defaultValue")
    return filled


def resolve(dag: Dag, name: str, component: Json, job: Job) -> tuple[Json, dict[str, Json]]:
    """A task's input parameters and artifacts (driver/resolve.go:102-369). Raises StepFailed."""
    task = dag.tasks[name]
    declared = component.get("inputDefinitions", {}).get("parameters", {})
    parameters = {}
    for each, spec in task.get("inputs", {}).get("parameters", {}).items():
        value = _parameter(dag, name, spec, job)
        if value is None and declared.get(each, {}).get("isOptional"):
            continue  # driver/resolve.go:339-344: the component has its own default
        parameters[each] = value
    artifacts = {
        each: _artifact(dag, spec, f"input {each}")
        for each, spec in task.get("inputs", {}).get("artifacts", {}).items()
    }
    for each, spec in declared.items():
        _check_and_convert(each, spec, parameters)
    return parameters, artifacts


def _parameter(dag: Dag, name: str, spec: Json, job: Job) -> Any:
    if "componentInputParameter" in spec:
        key = spec["componentInputParameter"]
        if key not in dag.inputs:
            raise StepFailed(f"nothing gives it the parameter {key} (driver/resolve.go:396)")
        return dag.inputs[key]
    if "taskOutputParameter" in spec:
        made = spec["taskOutputParameter"]
        return _made(dag, made["producerTask"], made["outputParameterKey"], "parameters")
    if "taskFinalStatus" in spec:
        return _final_status(dag, dag.tasks[name]["dependentTasks"][0], job)
    return job.placeholder(spec["runtimeValue"]["constant"], name)


def _artifact(dag: Dag, spec: Json, where: str) -> Json:
    if "componentInputArtifact" in spec:
        key = spec["componentInputArtifact"]
        if key not in dag.input_artifacts:
            raise StepFailed(f"nothing gives it {where} (driver/resolve.go:549)")
        return dag.input_artifacts[key]
    made = spec["taskOutputArtifact"]
    artifact: Json = _made(dag, made["producerTask"], made["outputArtifactKey"], "artifacts")
    return artifact


def _made(dag: Dag, producer: str, key: str, what: str) -> Any:
    """What a task of this DAG made; of a group, what a task within it did (driver/resolve.go:577-805)."""
    made = dag.done.get(producer)
    if isinstance(made, Dag):
        outputs = made.component["dag"].get("outputs", {}).get(what, {})
        if what == "parameters":
            inner = outputs[key]["valueFromParameter"]
            return _made(made, inner["producerSubtask"], inner["outputParameterKey"], what)
        (inner,) = outputs[key]["artifactSelectors"]
        return _made(made, inner["producerSubtask"], inner["outputArtifactKey"], what)
    found = getattr(made, what) if made else {}
    if key not in found:
        raise StepFailed(f"{producer} has not made its output {key}, which this task is to get")
    return found[key]


def _final_status(dag: Dag, watched: str, job: Job) -> Json:
    """What a PipelineTaskFinalStatus holds (driver/resolve.go:458-493): COMPLETE and FAILED, no SUCCEEDED;
    RUNNING where no task's end has settled the group's state; never a message."""
    state = dag.done[watched].state if watched in dag.done else "UNKNOWN"
    told = {"state": state, "pipelineTaskName": watched, "pipelineJobResourceName": job.run_id}
    return told | {"error": {}}


def _check_and_convert(name: str, spec: Json, parameters: Json) -> None:
    """Types as declared; anything becomes a STRING (driver/resolve.go:169-256). Raises StepFailed."""
    if name not in parameters:
        if not spec.get("isOptional") and "defaultValue" not in spec:
            raise StepFailed(f"it has no value for its parameter {name} (driver/resolve.go:191)")
        return
    value, kind = parameters[name], spec["parameterType"]
    if isinstance(value, str) and (macro := MACRO.search(value)):
        raise StepFailed(f"its parameter {name} holds {macro[0]}]], which Kubeflow 2.17 never fills in")
    if kind == "STRING":
        parameters[name] = plain_text(value)
    elif kind not in _KINDS:
        raise StepFailed(f"its parameter {name} is of type {kind}, which a rehearsal does not imitate")
    elif not isinstance(value, _KINDS[kind]):
        raise StepFailed(f"its parameter {name} should be {kind}, and is {value!r} (driver/resolve.go:219)")


def provision(component: Json, task_root: str) -> Json:
    """Where a task's outputs go (driver/driver.go:740-810). `executor-logs` is there unless an administrator
    has set PUBLISHLOGS=false; a try of a step has a number behind it (component/launcher_v2.go:538-598)."""
    defined = component.get("outputDefinitions", {})
    artifacts = {
        name: {"name": name, "uri": f"{task_root}/{name}", "type": spec["artifactType"], "metadata": {}}
        for name, spec in defined.get("artifacts", {}).items()
    }
    logs = {"name": LOGS, "uri": f"{task_root}/{LOGS}-0", "type": {"schemaTitle": "system.Artifact"}}
    return {
        "artifacts": {name: {"artifacts": [each]} for name, each in (artifacts | {LOGS: logs}).items()},
        "parameters": {
            name: {"outputFile": f"/tmp/kfp/outputs/{name}"} for name in defined.get("parameters", {})
        },
        "outputFile": f"{local_path(task_root)}/output_metadata.json",
    }


def local_path(uri: str) -> str:
    """Where the launcher puts an artifact in the pod (component/launcher_v2.go:1239-1253)."""
    for scheme, folder in (("gs://", "/gcs/"), ("minio://", "/minio/"), ("s3://", "/s3/")):
        if uri.startswith(scheme):
            return folder + uri.removeprefix(scheme)
    raise StepFailed(f"{uri}: its scheme has no local path (component/launcher_v2.go:1252)")


def pod_arguments(words: list[str], parameters: Json) -> list[str]:
    """The container's command or arguments as the driver writes them into the pod (driver/util.go:263-288):
    only input parameters are filled in, and in no word that names an output."""

    def fill(match: re.Match[str]) -> str:
        if match[1] not in parameters:
            raise StepFailed(f"{match[0]}: it has no such parameter (driver/util.go:176)")
        return argument_text(parameters[match[1]])

    if optional := next((word for word in words if word.strip().startswith('{"IfPresent":')), None):
        raise StepFailed(f"{optional[:40]}…: a rehearsal does not imitate dsl.IfPresentPlaceholder")
    return [word if "$.outputs" in word else _PARAMETER.sub(fill, word) for word in words]
