"""The pipeline as Kubeflow Pipelines runs it: one container per step, all of one image.

The map below is written by hand, as `dvc.yaml` is; a test holds both equal to the steps' signatures.
Only the two pure steps may be answered from the cluster's cache: the others read the world.
"""

# No `from __future__ import annotations` here: kfp reads the annotations themselves, not their text.
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kfp import dsl, kubernetes

from components.__main__ import step_named
from retrainer.contract import Contract, Port, contract_of

Settings = dict[str, dict[str, Any]]

PURE = frozenset({"preprocess", "train"})
GPU = "nvidia.com/gpu"
# What a pod asks for: a namespace with a quota rejects pods that ask for nothing.
CPU_AND_MEMORY = {
    "ingest": ("1", "2Gi"),
    "preprocess": ("1", "2Gi"),
    "train": ("2", "8Gi"),
    "evaluate": ("2", "4Gi"),
    "register": ("1", "4Gi"),
}
# Addresses and credentials reach the steps by these names, out of a Kubernetes secret, never as parameters.
# Without the first, each pod would register into a database of its own: a secret that lacks it stops the pod.
NEEDED_KEYS = ("MLFLOW_TRACKING_URI",)
OTHER_KEYS = (
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_S3_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
)


@dataclass(frozen=True)
class Cluster:
    """Where the steps run: the image, and optionally the name of a secret that every step reads."""

    image: str
    secret: str = ""


def pipeline_of(recipe: str, settings: Settings, cluster: Cluster) -> Any:
    """The recipe's pipeline, each section of its settings a parameter with the resolved value as default."""
    gpu = settings["compute"]["device"] == "cuda"
    default = settings

    @dsl.pipeline(name=f"retrainer-{recipe}".lower(), description=f"Retrains and judges '{recipe}'.")
    def retrain(
        source: dict = default["source"],
        split: dict = default["split"],
        task: dict = default["task"],
        backbone: dict = default["backbone"],
        training: dict = default["training"],
        compute: dict = default["compute"],
        evaluation: dict = default["evaluation"],
        gate: dict = default["gate"],
        registry: dict = default["registry"],
    ) -> None:
        raw = run("ingest", cluster)(source=source).outputs["raw"]
        dataset = run("preprocess", cluster)(raw=raw, split=split, task=task).outputs["dataset"]
        trained = run("train", cluster, gpu)(
            dataset=dataset, task=task, backbone=backbone, training=training, compute=compute
        )
        model = trained.outputs["model"]
        judged = run("evaluate", cluster)(
            dataset=dataset, model=model, evaluation=evaluation, gate=gate, registry=registry, compute=compute
        )
        run("register", cluster)(model=model, report=judged.outputs["report"], registry=registry)

    return retrain


def run(step: str, cluster: Cluster, gpu: bool = False) -> Callable[..., dsl.PipelineTask]:
    """A call that adds the step to the pipeline under construction, with its resources."""
    component = container(step, cluster.image)

    def call(**arguments: Any) -> dsl.PipelineTask:
        task = component(**arguments)
        task.set_caching_options(step in PURE)
        cpu, memory = CPU_AND_MEMORY[step]
        task.set_cpu_request(cpu).set_memory_request(memory)
        if gpu:
            task.set_accelerator_type(GPU).set_accelerator_limit(1)
            kubernetes.add_toleration(task, key=GPU, operator="Exists", effect="NoSchedule")
        if cluster.secret:
            for keys, optional in ((NEEDED_KEYS, False), (OTHER_KEYS, True)):
                kubernetes.use_secret_as_env(
                    task, cluster.secret, dict(zip(keys, keys, strict=True)), optional
                )
        return task

    return call


def container(step: str, image: str) -> Any:
    """The step as a container component whose signature is made from the step's own."""
    contract = contract_of(step_named(step))
    names = [*contract.ports, *contract.sections]

    def body(*values: Any) -> dsl.ContainerSpec:
        return dsl.ContainerSpec(
            image=image,
            command=["python", "-m", "components", step],
            args=arguments_of(contract, dict(zip(names, values, strict=True))),
        )

    parameters = [parameter(name, annotation_of(port)) for name, port in contract.ports.items()]
    parameters += [parameter(name, dict) for name in contract.sections]
    body.__name__ = step
    body.__doc__ = inspect.getdoc(step_named(step))
    body.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return dsl.container_component(body)


def parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation)


def annotation_of(port: Port) -> Any:
    artifact = getattr(dsl, port.artifact)
    return dsl.Input[artifact] if port.direction == "input" else dsl.Output[artifact]


def arguments_of(contract: Contract, values: dict[str, Any]) -> list[Any]:
    """The same options that DVC passes, with Kubeflow's placeholders for paths and sections as JSON."""
    arguments: list[Any] = []
    for name in contract.ports:
        arguments += [f"--{name}", values[name].path]
    for name in contract.sections:
        arguments += [f"--{name}", values[name]]
    return [*arguments, "--executor-output", dsl.PIPELINE_TASK_EXECUTOR_OUTPUT_PATH_PLACEHOLDER]
