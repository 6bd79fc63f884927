"""Groups, conditions and exit tasks as kfp's own compiler writes them, with a function for a container."""

# No `from __future__ import annotations` here: kfp reads the annotations themselves, not their text.
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kfp import compiler, dsl

from pipelines.containers.backend import dag
from pipelines.containers.backend.driver import Execution, Job
from pipelines.containers.docker_api import StepFailed
from retrainer.errors import UserError

JOB = Job("retrainer-x", "run-1", "2026-01-31T23:59:59Z", "minio://bucket/run-1")


def spec_of(pipeline: Any, folder: Path) -> dict[str, Any]:
    compiler.Compiler().compile(pipeline, str(folder / "pipeline.yaml"))
    return dag.parts_of((folder / "pipeline.yaml").read_text())[0]


@dsl.container_component
def decide(verdict: dsl.OutputPath(str), count: dsl.OutputPath(int)) -> dsl.ContainerSpec:  # type: ignore[valid-type]
    return dsl.ContainerSpec(image="x", command=["true"], args=[verdict, count])


@dsl.container_component
def train(model: dsl.Output[dsl.Model], why: str) -> dsl.ContainerSpec:
    return dsl.ContainerSpec(image="x", command=["true"], args=[model.path, why])


@dsl.container_component
def register(model: dsl.Input[dsl.Model]) -> dsl.ContainerSpec:
    return dsl.ContainerSpec(image="x", command=["true"], args=[model.path])


@dsl.container_component
def notify(status: dsl.PipelineTaskFinalStatus, name: str) -> dsl.ContainerSpec:
    return dsl.ContainerSpec(image="x", command=["true"], args=[status, name])


@dsl.pipeline(name="gated")
def gated(name: str = "it") -> None:
    with dsl.ExitHandler(notify(name=name)):
        decided = decide()
        with dsl.If(decided.outputs["verdict"] == "train"):
            made = train(why=decided.outputs["verdict"])
            register(model=made.outputs["model"])
        with dsl.Elif(decided.outputs["count"] != 3):
            train(why="counted")


class Run:
    """A run of `gated`, whose decide says what it is told to, and in which one task may fail."""

    def __init__(
        self, folder: Path, verdict: str, count: float = 3.0, failing: str = "", killed: bool = False
    ) -> None:
        self.spec = spec_of(gated, folder)
        self.decided = Execution("COMPLETE", {"verdict": verdict, "count": count})
        self.failing, self.killed = failing, killed
        self.ran: list[str] = []
        self.given: dict[str, Any] = {}
        self.skipped: list[str] = []
        self.said: list[str] = []

    def perform(self) -> "Run":
        dag.run(self.spec, JOB, {}, self._container, self.said.append, self.skipped)
        return self

    def _container(self, name: str, _: Any, parameters: Any, artifacts: Any) -> Execution:
        self.ran.append(name)
        self.given[name] = parameters | artifacts
        if name == self.failing:
            raise StepFailed("it broke", 1, published=not self.killed)
        if name == "decide":
            return self.decided
        return Execution("COMPLETE", {}, {"model": {"uri": f"minio://{name}"}})


def test_a_condition_that_holds_runs_its_group(tmp_path: Path) -> None:
    run = Run(tmp_path, "train").perform()
    assert run.ran == ["decide", "train", "register", "notify"]
    assert run.skipped == ["train-2"]
    assert run.given["train"] == {"why": "train"}
    assert run.given["register"] == {"model": {"uri": "minio://train"}}
    assert run.given["notify"]["name"] == "it"


def test_else_runs_where_the_first_does_not_hold(tmp_path: Path) -> None:
    run = Run(tmp_path, "wait", count=4.0).perform()
    assert run.ran == ["decide", "train-2", "notify"] and run.skipped == ["train", "register"]


def test_what_a_condition_leaves_out_is_said(tmp_path: Path) -> None:
    run = Run(tmp_path, "wait").perform()
    assert run.ran == ["decide", "notify"] and set(run.skipped) == {"train", "register", "train-2"}
    assert any("train, register: left out, as inputs.parameter_values" in line for line in run.said)


def status_told(folder: Path, verdict: str, **options: Any) -> dict[str, Any]:
    run = Run(folder, verdict, **options)
    if run.failing:
        with pytest.raises(StepFailed, match="it broke") as failed:
            run.perform()
        assert failed.value.step == run.failing
    else:
        run.perform()
    assert run.ran[-1] == "notify"
    told: dict[str, Any] = run.given["notify"]["status"]
    return told


STATES: dict[str, tuple[str, dict[str, Any], str]] = {
    "one group ran": ("train", {}, "COMPLETE"),
    "the other group ran": ("wait", {"count": 4.0}, "COMPLETE"),
    # No task ends after the groups were left out, and nothing else settles the state.
    "nothing ran": ("wait", {}, "RUNNING"),
    "a task failed": ("train", {"failing": "decide"}, "FAILED"),
    "a task of a group failed": ("train", {"failing": "train"}, "FAILED"),
    "a pod was killed": ("train", {"failing": "train", "killed": True}, "RUNNING"),
}


@pytest.mark.parametrize("case", STATES)
def test_what_an_exit_task_is_told(tmp_path: Path, case: str) -> None:
    verdict, options, state = STATES[case]
    assert status_told(tmp_path, verdict, **options) == {
        "state": state,
        "pipelineTaskName": "exit-handler-1",
        "pipelineJobResourceName": "run-1",
        "error": {},
    }


def test_an_exit_task_that_fails_fails_the_run(tmp_path: Path) -> None:
    with pytest.raises(StepFailed) as failed:
        Run(tmp_path, "train", failing="notify").perform()
    assert failed.value.step == "notify"


def test_all_tasks_are_known_before_any_runs(tmp_path: Path) -> None:
    spec = spec_of(gated, tmp_path)
    assert [name for name, _ in dag.containers(spec, spec["root"])] == [
        "decide",
        "train",
        "register",
        "train-2",
        "notify",
    ]


def looped() -> None:
    with dsl.ParallelFor(["a", "b"]) as each:
        train(why=each)


def imported() -> None:
    found = dsl.importer(artifact_uri="s3://bucket/model", artifact_class=dsl.Model)
    register(model=found.output)


@pytest.mark.parametrize(("body", "what"), [(looped, r"dsl\.ParallelFor"), (imported, "of kind importer")])
def test_what_is_not_imitated_is_refused_before_anything_runs(
    tmp_path: Path, body: Callable[[], None], what: str
) -> None:
    spec = spec_of(dsl.pipeline(name="other")(body), tmp_path)
    with pytest.raises(UserError, match=what):
        dag.check(spec)
