"""The pipeline as Kubeflow Pipelines runs it: one container per step.

The map below is written by hand, as `dvc.yaml` is; a test holds both equal to the steps' signatures. Beside
each dataset and model goes its sha256 as a parameter: the step checks what arrived, and a cache tells data
apart by content. Only the pure steps may be answered from a cache: the others have side effects, or read what
changes outside of the pipeline.

A section travels as text that holds JSON, see `section_text`.
"""

# No `from __future__ import annotations` here: kfp reads the annotations themselves, not their text.
import inspect
import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from kfp import dsl

from components.command import step_named
from components.steps import DECIDE, FACTS
from pipelines import _exit_handler, _pods
from retrainer.contract import Contract, Port, contract_of
from retrainer.errors import SettingError
from retrainer.settings import Cluster

Settings = dict[str, dict[str, Any]]
# The parameter that holds the digest of a step's code.
CODE = "code_sha256"


@dataclass(frozen=True)
class Images:
    """The references of the two images.

    fixed: neither can be moved to other code. ours: they hold what docker/Dockerfile copies, and no more.
    """

    full: str
    light: str
    fixed: bool = True
    ours: bool = False

    def of(self, step: str) -> str:
        return self.light if FACTS[step].image == "light" else self.full


def pipeline_of(
    recipe: str,
    settings: Settings,
    images: Images,
    cluster: Cluster,
    scheduled: bool = False,
    code: Mapping[str, str] | None = None,
) -> Any:
    """The recipe's pipeline, each section of its settings a parameter with the resolved value as default.

    By another policy than `always` the step decide comes first, and what follows waits for its choice.

    scheduled: a schedule starts its runs, and the time for which it does is recorded with the data and in
    MLflow. Kubeflow's driver fills in this placeholder where it is a task's constant input, and only there
    (KFP 2.17, backend/src/v2/driver/resolve.go:446); for a run that no schedule started, with the run's own
    beginning, so such a pipeline does not ask.

    code: step → digest of its code, a constant of the step's task, and so part of Kubeflow's cache key.
    """
    default = {name: section_text(section) for name, section in settings.items()}
    time: Any = dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER if scheduled else ""

    def run(step: str) -> Callable[..., dsl.PipelineTask]:
        """A call that adds the step to the pipeline under construction, with what its pod needs."""
        component = container(step, images.of(step))

        def call(**arguments: Any) -> dsl.PipelineTask:
            added = component(**arguments, **{CODE: (code or {}).get(step, "")})
            repeats = step != "train" or not settings["training"]["budget_seconds"]
            added.set_caching_options(FACTS[step].pure and images.fixed and repeats)
            _pods.describe(added, step, images.of(step), settings, cluster)
            return added

        return call

    @dsl.pipeline(name=pipeline_name(recipe), description=f"Retrains and judges '{recipe}'.")
    @_exit_handler.with_exit_task(recipe, settings, images.light, cluster)
    def pipeline(
        source: str = default["source"],
        split: str = default["split"],
        checks: str = default["checks"],
        task: str = default["task"],
        backbone: str = default["backbone"],
        training: str = default["training"],
        retrain: str = default["retrain"],
        compute: str = default["compute"],
        evaluation: str = default["evaluation"],
        gate: str = default["gate"],
        registry: str = default["registry"],
    ) -> None:
        ingested = run("ingest")(source=source, scheduled_time=time)
        raw = handed(ingested, "raw")
        dataset = handed(run("preprocess")(**raw, split=split, checks=checks, task=task), "dataset")
        what = {"task": task, "backbone": backbone, "training": training}
        asked = settings["retrain"]["policy"] != "always"
        decided = run(DECIDE)(**dataset, **what, retrain=retrain, registry=registry) if asked else None
        with on_choice(decided):
            model = handed(run("train")(**dataset, **what, compute=compute), "model")
            judged = run("evaluate")(
                **dataset,
                **model,
                checks=checks,
                evaluation=evaluation,
                gate=gate,
                registry=registry,
                compute=compute,
            )
            run("register")(**model, report=judged.outputs["report"], registry=registry, scheduled_time=time)

    return pipeline


def section_text(section: dict[str, Any]) -> str:
    """The section as JSON in which no `$` and no `{{` stands; every JSON reader gives the same values back.

    On its way a parameter's value stands in arguments of pods, where the kubelet replaces `$(NAME)` by the
    environment variable NAME (a secret, for example) and `$$` by `$`, and in templates of Argo and of
    Kubeflow's launcher, which replace `{{…}}`. A STRUCT loses such escapes, and makes 5.0 of 5.
    """
    text = json.dumps(section, ensure_ascii=False, allow_nan=False).replace("$", r"\u0024")
    return re.sub(r"\{(?=\{)", r"\\u007b", text)


def pipeline_name(recipe: str) -> str:
    """Raises UserError for a recipe whose name Kubeflow would not take (kfp 2.17, dsl/utils.py)."""
    name = f"retrainer-{recipe}"
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,127}", name):
        raise SettingError(
            f"RECIPE={recipe}: Kubeflow takes no such name for a pipeline, only a-z, 0-9 and -, at most 128"
            f" with 'retrainer-'; rename recipes/{recipe}.yaml"
        )
    return name


def on_choice(decided: dsl.PipelineTask | None) -> AbstractContextManager[Any]:
    """What is added inside runs when the decision is to train; always, where none is asked for."""
    if decided is None:
        return nullcontext()
    return dsl.If(decided.outputs[choice_name("decision")] == "train", name="if-it-trains")


def handed(task: dsl.PipelineTask, port: str) -> dict[str, Any]:
    """An output and its digest, as the next step takes them."""
    return {port: task.outputs[port], digest_name(port): task.outputs[digest_name(port)]}


def digest_name(port: str) -> str:
    return f"{port}_sha256"


def choice_name(port: str) -> str:
    return f"{port}_choice"


def container(step: str, image: str) -> Any:
    """The step as a container component whose signature is made from the step's own."""
    contract = contract_of(step_named(step))
    annotations = {name: annotation_of(port) for name, port in contract.ports.items()}
    for name in contract.sealed("input"):
        annotations[digest_name(name)] = str
    for name in contract.sealed("output"):
        annotations[digest_name(name)] = dsl.OutputPath(str)
    for name in contract.choices():
        annotations[choice_name(name)] = dsl.OutputPath(str)
    annotations |= dict.fromkeys(contract.sections, str) | {CODE: str}
    if FACTS[step].scheduled:
        annotations["scheduled_time"] = str

    def body(*values: Any) -> dsl.ContainerSpec:
        return dsl.ContainerSpec(
            image=image,
            command=["python", "-m", "components", step],
            args=arguments_of(contract, dict(zip(annotations, values, strict=True))),
        )

    body.__name__ = step
    body.__doc__ = inspect.getdoc(step_named(step))
    parameters = [parameter(name, annotation) for name, annotation in annotations.items()]
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
    for name, value in values.items():
        option = f"--{name.replace('_', '-')}"
        arguments += [option, value.path if name in contract.ports else value]
    return [*arguments, "--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER]
