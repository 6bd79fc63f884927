"""Every recipe compiles to what Kubeflow runs, and each rule is red for a pipeline that breaks it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.cluster.rules import RULES, check
from pipelines.compile import compile_recipe, images_named
from pipelines.containers.backend.dag import parts_of
from retrainer.errors import UserError
from tests.conftest import ROOT, first_quick

IMAGE = "registry.example/retrainer@sha256:" + "a" * 64
LENT = ["cluster.mlflow_secret=mlflow", "cluster.storage_secret=storage", "cluster.checkpoint_volume=kept"]
# The data of some recipes, which else no pod would find.
LENT.append("cluster.image_holds=[data]")
Json = dict[str, Any]


def compiled(folder: Path, recipe: str, *overrides: str, scheduled: bool = False) -> tuple[Json, Json]:
    made = compile_recipe(
        recipe,
        [*LENT, *overrides],
        images_named(IMAGE),
        ROOT,
        folder.absolute(),
        scheduled=scheduled,
    )
    return parts_of(made.path.read_text())


def broken_rule(spec: Json, platform: Json) -> str:
    """What `check` says against the pipeline; nothing where it keeps every rule."""
    try:
        check(spec, platform)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("scheduled", first_quick([True, False]))
@pytest.mark.parametrize("recipe", sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml")))
def test_every_recipe_keeps_every_rule(tmp_path: Path, recipe: str, scheduled: bool) -> None:
    assert broken_rule(*compiled(tmp_path, recipe, "backbone.weights=none", scheduled=scheduled)) == ""


@pytest.mark.parametrize("policy", ["drift", pytest.param("new-data", marks=pytest.mark.slow)])
def test_so_does_a_pipeline_that_asks_before_it_trains(tmp_path: Path, policy: str) -> None:
    guarded = ["cluster.webhook_secret=chat", f"retrain.policy={policy}"]
    assert broken_rule(*compiled(tmp_path, "digits-mlp", *guarded, scheduled=True)) == ""


def test_no_setting_of_a_step_breaks_a_rule(tmp_path: Path) -> None:
    hostile = "s3://bucket/$(AWS_SECRET_ACCESS_KEY)/$$/{{workflow.uid}}/[[1]]"
    assert broken_rule(*compiled(tmp_path, "digits-mlp", f"source.path={hostile}")) == ""


def test_a_setting_of_the_pods_may_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"breaks the rule 'dollar': .*MLFLOW_EXPERIMENT_NAME"):
        compiled(tmp_path, "digits-mlp", "cluster.experiment=$(AWS_SECRET_ACCESS_KEY)")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Json, Json]:
    return compiled(tmp_path_factory.mktemp("whole"), "digits-mlp", "cluster.retries=2", scheduled=True)


def container(spec: Json, step: str = "train") -> Json:
    found: Json = spec["deploymentSpec"]["executors"][f"exec-{step}"]["container"]
    return found


def task(spec: Json, step: str) -> Json:
    """The step's task, in whichever group it is."""
    for component in [spec["root"], *spec["components"].values()]:
        if found := component.get("dag", {}).get("tasks", {}).get(step):
            it: Json = found
            return it
    raise KeyError(step)


def default(spec: Json, value: Any) -> None:
    spec["root"]["inputDefinitions"]["parameters"]["training"]["defaultValue"] = value


Break = Callable[[Json, Json], Any]
BREAKS: dict[str, list[Break]] = {
    "name": [lambda spec, _: spec["pipelineInfo"].update(name="retrainer-my_recipe")],
    "placeholders": [
        lambda spec, _: container(spec)["args"].append("{{$.outputs.output_file}}"),
        lambda spec, _: container(spec)["args"].append("{{$.inputs.artifacts['other'].path}}"),
        lambda spec, _: container(spec)["args"].append("{{$.pipeline_job_uuid}}"),
        lambda spec, _: container(spec)["command"].insert(0, "{{$.inputs.parameters['training']}}"),
    ],
    "executor input": [lambda spec, _: container(spec)["args"].remove("{{$}}")],
    "macros": [lambda spec, _: default(spec, "[[ScheduledTime]]")],
    "dollar": [
        lambda spec, _: default(spec, "$(AWS_SECRET_ACCESS_KEY)"),
        lambda spec, _: default(spec, "{{$.inputs.parameters['x']}}"),
        lambda spec, _: container(spec)["args"].append("$$"),
        lambda spec, _: container(spec)["env"].append({"name": "A", "value": "$(B)"}),
    ],
    "templates": [lambda spec, _: default(spec, "{{workflow.uid}}")],
    "finite": [lambda spec, _: default(spec, {"learning_rate": [float("nan")]})],
    "retries": [
        lambda spec, _: task(spec, "train")["retryPolicy"].update(backoffMaxDuration="3600s"),
        lambda spec, _: task(spec, "train")["retryPolicy"].pop("backoffMaxDuration"),
    ],
    "tmp": [lambda _, pods: pods["exec-train"].pop("emptyDirMounts")],
    "requests": [
        lambda spec, _: container(spec)["resources"].pop("resourceCpuRequest"),
        lambda spec, _: container(spec, "ingest").pop("resources"),
    ],
    "pure": [lambda spec, _: task(spec, "register").update(cachingOptions={"enableCache": True})],
    "digest": [lambda spec, _: container(spec).update(image="registry.example/retrainer:latest")],
    "registry": [
        lambda _, pods: [
            each.update(optional=True)
            for each in pods["exec-register"]["secretAsEnv"]
            if each["keyToEnv"][0]["envVar"] == "MLFLOW_TRACKING_URI"
        ]
    ],
    "variables": [
        lambda spec, _: container(spec)["env"].append({"name": "AWS_ACCESS_KEY_ID", "value": "a"}),
        lambda spec, _: container(spec)["env"].append({"name": "RETRAINER_KFP_RUN_ID", "value": "a"}),
    ],
    "not root": [
        lambda _, pods: pods["exec-train"].pop("securityContext"),
        lambda _, pods: pods["exec-train"]["securityContext"].update(runAsUser="0"),
    ],
}


def test_each_rule_can_be_broken() -> None:
    assert [rule.name for rule in RULES] == list(BREAKS)


@pytest.mark.parametrize("rule", BREAKS)
def test_a_broken_rule_is_named(whole: tuple[Json, Json], rule: str) -> None:
    for break_it in BREAKS[rule]:
        spec, pods = copy.deepcopy(whole)
        check(spec, pods)
        break_it(spec, pods)
        with pytest.raises(UserError, match=f"breaks the rule '{rule}': "):
            check(spec, pods)
