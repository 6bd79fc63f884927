"""A compiled pipeline's tasks in order: groups, conditions, exit tasks, and the states that these see.

Sources: kubeflow/pipelines 2.17.0, backend/src/v2. Argo runs tasks side by side; here one follows another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

from pipelines.containers.backend.conditions import comparisons, holds
from pipelines.containers.backend.driver import Dag, Execution, Job, Json, resolve, root_parameters
from pipelines.containers.backend.values import as_value
from pipelines.containers.docker_api import StepFailed
from retrainer.errors import ServiceError

# Runs one task's container: (its name, its component, its parameters, its artifacts) → what it made.
RunContainer = Callable[[str, Json, Json, dict[str, Json]], Execution]
_EXIT = "ALL_UPSTREAM_TASKS_COMPLETED"
_SETTLED = ("COMPLETE", "CANCELED")
_LEFT_OUT = ("CANCELED", "OMITTED")
_CANNOT = "a rehearsal does not imitate that; submit the pipeline, or rehearse one without it"


def run(
    spec: Json,
    job: Job,
    arguments: Json,
    container: RunContainer,
    say: Callable[[str], None],
    skipped: list[str],
) -> None:
    """Runs the pipeline; adds to `skipped` the tasks that a condition leaves out.

    Raises StepFailed for the first task that failed, after the exit tasks have run.
    """
    parameters = as_value(root_parameters(spec["root"], arguments))
    Runner(spec, job, container, say, skipped).run(Dag(component=spec["root"], inputs=parameters))


@dataclass
class Runner:
    """Holds what all groups share."""

    spec: Json
    job: Job
    container: RunContainer
    say: Callable[[str], None]
    skipped: list[str]

    def run(self, dag: Dag) -> None:
        """All tasks of one group; after one that failed, none but the exit tasks that watch it.

        Of those that may begin, those that a condition leaves out come first: a cluster knows them at once.
        """
        waiting = [name for name in order(dag.tasks) if not _is_exit(dag.tasks[name])]
        while waiting:
            ready = [name for name in waiting if not set(needs(dag.tasks[name])) & set(waiting)]
            left_out = [name for name in ready if self._is_left_out(dag, name)]
            if not left_out:
                self._with_exit_tasks(dag, ready[0])
            waiting = [name for name in waiting if name not in (left_out or ready[:1])]

    def _with_exit_tasks(self, dag: Dag, name: str) -> None:
        """An exit task hangs on the one that it watches (compiler/argocompiler/dag.go:62-110)."""
        failed: StepFailed | None = None
        for each in [name, *_watching(dag.tasks, name)]:
            try:
                self._perform(dag, each)
            except StepFailed as failure:
                failure.step = failure.step or each
                failed = failed or failure
        if failed:
            raise failed

    def _is_left_out(self, dag: Dag, name: str) -> bool:
        """Whether it does not run: its condition does not hold, or a task that it needs was left out itself.

        All that it needs must have succeeded (compiler/argocompiler/dag.go:708-726).
        """
        component = self._component(dag, name)
        if any(dag.done[each].state in _LEFT_OUT for each in needs(dag.tasks[name])):
            dag.done[name] = Execution("OMITTED")
            self._skip(component, name, "what it needs was left out")
            return True
        condition = dag.tasks[name].get("triggerPolicy", {}).get("condition", "")
        try:
            if not condition or holds(condition, resolve(dag, name, component, self.job)[0]):
                return False
        except StepFailed as failure:
            failure.step = name
            raise
        dag.done[name] = Execution("CANCELED")  # which does not settle the group (metadata/client.go:660-664)
        self._skip(component, name, f"as {condition} does not hold")
        return True

    def _component(self, dag: Dag, name: str) -> Json:
        component: Json = self.spec["components"][dag.tasks[name]["componentRef"]["name"]]
        return component

    def _perform(self, dag: Dag, name: str) -> None:
        component = self._component(dag, name)
        parameters, artifacts = resolve(dag, name, component, self.job)
        if "dag" in component:
            made = Dag(component=component, inputs=parameters, input_artifacts=artifacts, parent=dag)
            dag.done[name] = made
            self.run(made)
            return
        dag.done[name] = Execution()
        try:
            dag.done[name] = self.container(name, component, parameters, artifacts)
        except StepFailed as failure:
            if failure.published:
                dag.done[name].state = "FAILED"
                settle(dag)
            raise
        settle(dag)

    def _skip(self, component: Json, name: str, why: str) -> None:
        inside = [name for name, _ in containers(self.spec, component)] or [name]
        self.skipped += inside
        self.say(f"── {', '.join(inside)}: left out, {why}")


def settle(dag: Dag) -> None:
    """The group's state after one of its tasks has ended, then its own group's (metadata/client.go:800-892).

    A task that a condition left out counts as done, yet only the end of another settles the group
    (component/launcher_v2.go:227): where it was the last, the group stays RUNNING for an exit task.
    """
    if dag.parent is None:
        return
    states = [each.state for each in dag.done.values()]
    if sum(state in _SETTLED for state in states) == len(dag.tasks):
        dag.state = "COMPLETE"
    elif "FAILED" in states:
        dag.state = "FAILED"
    else:
        return
    settle(dag.parent)


def order(tasks: Json) -> list[str]:
    """Each task after those that it needs."""
    return list(TopologicalSorter({name: needs(tasks[name]) for name in sorted(tasks)}).static_order())


def needs(task: Json) -> list[str]:
    """The tasks before this one, also those whose outputs it takes (compiler/argocompiler/dag.go:659-706)."""
    found = list(task.get("dependentTasks", []))
    for kind in ("parameters", "artifacts"):
        for each in task.get("inputs", {}).get(kind, {}).values():
            made = each.get("taskOutputParameter") or each.get("taskOutputArtifact")
            if made and made["producerTask"] not in found:
                found.append(made["producerTask"])
    return found


def _is_exit(task: Json) -> bool:
    return bool(task.get("triggerPolicy", {}).get("strategy") == _EXIT)


def _watching(tasks: Json, name: str) -> list[str]:
    return [each for each in sorted(tasks) if _is_exit(tasks[each]) and name in tasks[each]["dependentTasks"]]


def containers(spec: Json, component: Json) -> Iterator[tuple[str, Json]]:
    """Every task with a container, and its component: those within groups too, in the order of a run."""
    tasks = component.get("dag", {}).get("tasks", {})
    for name in order(tasks):
        inner = spec["components"][tasks[name]["componentRef"]["name"]]
        if "dag" in inner:
            yield from containers(spec, inner)
        else:
            yield name, inner


def parts_of(text: str) -> tuple[Json, dict[str, Json]]:
    """The compiled pipeline, and what its second document tells Kubernetes of each executor."""
    import yaml

    documents: list[Any] = list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    kubernetes = documents[1]["platforms"]["kubernetes"]["deploymentSpec"] if len(documents) > 1 else {}
    return documents[0], kubernetes.get("executors", {})


def check(spec: Json) -> None:
    """Raises UserError for a pipeline that has what a rehearsal does not imitate."""
    for component in [spec["root"], *spec.get("components", {}).values()]:
        for name, task in component.get("dag", {}).get("tasks", {}).items():
            _check_task(name, task)
    for executor in spec["deploymentSpec"]["executors"].values():
        if "container" not in executor:
            raise ServiceError(f"the pipeline has a task of kind {next(iter(executor))}: {_CANNOT}")


def _check_task(name: str, task: Json) -> None:
    for key, what in (("parameterIterator", "dsl.ParallelFor"), ("artifactIterator", "dsl.ParallelFor")):
        if key in task:
            raise ServiceError(f"the pipeline's task {name} is a {what}: {_CANNOT}")
    for each in task.get("inputs", {}).get("parameters", {}).values():
        if "parameterExpressionSelector" in each:
            raise ServiceError(f"the pipeline's task {name} takes a part of a parameter: {_CANNOT}")
    if condition := task.get("triggerPolicy", {}).get("condition"):
        try:
            comparisons(condition)
        except StepFailed as failure:
            raise ServiceError(f"the pipeline's task {name}: {failure}") from None
