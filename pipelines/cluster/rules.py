"""What must hold of a compiled pipeline before Kubeflow gets it: each rule with the source of its reason.

Sources are kubeflow/pipelines 2.17.0, below backend/src/v2 where nothing else is said. Who adds a rule adds
it to RULES, and a way to break it to tests/test_rules.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from components.steps import FACTS
from pipelines.containers.backend import driver, launcher
from pipelines.containers.backend.dag import containers
from pipelines.containers.backend.driver import Json
from retrainer.errors import ServiceError

_JOB = re.compile(r"\{\{\$\.pipeline_(job|task)_\w+\}\}")
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")


@dataclass(frozen=True)
class Compiled:
    """The two documents of a compiled pipeline: the pipeline, and Kubernetes' part by executor."""

    spec: Json
    kubernetes: dict[str, Json]

    def pods(self) -> Iterator[tuple[str, Json, Json, Json]]:
        """Every task with a container: its name, component, container, and Kubernetes' part."""
        for name, component in containers(self.spec, self.spec["root"]):
            label = component["executorLabel"]
            container = self.spec["deploymentSpec"]["executors"][label]["container"]
            yield name, component, container, self.kubernetes.get(label, {})

    def tasks(self) -> Iterator[tuple[str, Json]]:
        """Every task, groups of tasks too."""
        for component in [self.spec["root"], *self.spec["components"].values()]:
            yield from component.get("dag", {}).get("tasks", {}).items()

    def values(self) -> Iterator[tuple[str, Any]]:
        """Every value that stands in the pipeline, with where: defaults, constants, environments."""
        for name, component in [("pipeline", self.spec["root"]), *self.spec["components"].items()]:
            for key, spec in component.get("inputDefinitions", {}).get("parameters", {}).items():
                yield f"{name}'s parameter {key}", spec.get("defaultValue")
        for name, task in self.tasks():
            for key, spec in task.get("inputs", {}).get("parameters", {}).items():
                yield f"{name}'s parameter {key}", spec.get("runtimeValue", {}).get("constant")
        for name, _, container, _ in self.pods():
            for each in container.get("env", []):
                yield f"{name}'s variable {each['name']}", each.get("value")


@dataclass(frozen=True)
class Rule:
    """`breaches` says where the pipeline breaks the rule."""

    name: str
    reason: str
    breaches: Callable[[Compiled], Iterator[str]]


def check(spec: Json, kubernetes: dict[str, Json]) -> None:
    """Raises UserError for a pipeline that breaks a rule: names the rule, the place and the reason."""
    compiled = Compiled(spec, kubernetes)
    for rule in RULES:
        for place in rule.breaches(compiled):
            raise ServiceError(
                f"the compiled pipeline breaks the rule '{rule.name}': {place} ({rule.reason})"
            )


def _placeholders(compiled: Compiled) -> Iterator[str]:
    for name, component, container, _ in compiled.pods():
        defined = component.get("inputDefinitions", {})
        artifacts = {key: {"artifacts": [{"uri": "s3://any"}]} for key in defined.get("artifacts", {})}
        given = {
            "inputs": {
                "parameterValues": dict.fromkeys(defined.get("parameters", {}), ""),
                "artifacts": artifacts,
            },
            "outputs": driver.provision(component, "s3://any"),
        }
        known = launcher.placeholders(given)
        words = [*container.get("command", []), *container.get("args", [])]
        for place, word in enumerate(words):
            if left := launcher.unknown_in(word, known if place else {}):
                yield f"{name}: {left} in {word}"


def _told_where_to_write(compiled: Compiled) -> Iterator[str]:
    for name, component, container, _ in compiled.pods():
        if "artifacts" in component.get("outputDefinitions", {}) and "{{$}}" not in container.get("args", []):
            yield f"{name} has outputs and no {{{{$}}}} among its arguments"


def _no_macro(compiled: Compiled) -> Iterator[str]:
    yield from (where for where, value in compiled.values() if driver.MACRO.search(str(value)))


def _no_dollar(compiled: Compiled) -> Iterator[str]:
    for where, value in compiled.values():
        if isinstance(value, str) and "$" in _JOB.sub("", value):
            yield where
    for name, _, container, _ in compiled.pods():
        for word in [*container.get("command", []), *container.get("args", [])]:
            if "$" in re.sub(r"\{\{\$.*?\}\}", "", word):
                yield f"{name}: {word}"


def _no_template(compiled: Compiled) -> Iterator[str]:
    for where, value in compiled.values():
        if isinstance(value, str) and "{{" in ("" if _JOB.fullmatch(value) else value):
            yield where


def _finite(compiled: Compiled) -> Iterator[str]:
    yield from (where for where, value in compiled.values() if not _is_finite(value))


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_finite(each) for each in value.values())
    if isinstance(value, list):
        return all(_is_finite(each) for each in value)
    return not isinstance(value, float) or math.isfinite(value)


def _retries_last(compiled: Compiled) -> Iterator[str]:
    deadlines = {name: int(part.get("activeDeadlineSeconds", 0)) for name, _, _, part in compiled.pods()}
    for name, task in compiled.tasks():
        policy = task.get("retryPolicy")
        if not policy:
            continue
        count, wait = int(policy.get("maxRetryCount", 0)), _seconds(policy.get("backoffDuration", "0s"))
        waits = sum(wait * float(policy.get("backoffFactor", 2)) ** each for each in range(count))
        least = (count + 1) * deadlines[name] + waits
        if _seconds(policy.get("backoffMaxDuration", "3600s")) < least:
            yield f"{name} may take {least:.0f} s and is given {policy.get('backoffMaxDuration', '3600s')}"


def _seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def _writable_tmp(compiled: Compiled) -> Iterator[str]:
    for name, _, _, part in compiled.pods():
        if "/tmp" not in [each["mountPath"] for each in part.get("emptyDirMounts", [])]:
            yield name


def _requests(compiled: Compiled) -> Iterator[str]:
    for name, _, container, _ in compiled.pods():
        for kind in ("Cpu", "Memory"):
            if not container.get("resources", {}).get(f"resource{kind}Request"):
                yield f"{name} asks for no {kind}"


def _only_pure_cached(compiled: Compiled) -> Iterator[str]:
    pure = {step for step, facts in FACTS.items() if facts.pure}
    yield from (name for name, task in compiled.tasks() if _is_cached(task) and name not in pure)


def _cached_by_digest(compiled: Compiled) -> Iterator[str]:
    images = {name: container["image"] for name, _, container, _ in compiled.pods()}
    for name, task in compiled.tasks():
        if _is_cached(task) and not _DIGEST.search(images.get(name, "")):
            yield f"{name}: {images.get(name)}"


def _is_cached(task: Json) -> bool:
    return bool(task.get("cachingOptions", {}).get("enableCache"))


def _has_registry(compiled: Compiled) -> Iterator[str]:
    for name, _, _, part in compiled.pods():
        lent = {
            key["envVar"]: bool(secret.get("optional"))
            for secret in part.get("secretAsEnv", [])
            for key in secret["keyToEnv"]
        }
        if any(key.startswith("MLFLOW_TRACKING_") for key in lent) and lent.get("MLFLOW_TRACKING_URI", True):
            yield name


def _variables_once(compiled: Compiled) -> Iterator[str]:
    for name, _, container, part in compiled.pods():
        lent = [*part.get("secretAsEnv", []), *part.get("configMapAsEnv", [])]
        names = [key["envVar"] for each in lent for key in each["keyToEnv"]]
        names += [each["name"] for each in (*container.get("env", []), *part.get("fieldPathAsEnv", []))]
        for twice in sorted({each for each in names if names.count(each) > 1}):
            yield f"{name}: {twice}"


def _not_root(compiled: Compiled) -> Iterator[str]:
    for name, _, _, part in compiled.pods():
        context = part.get("securityContext", {})
        if not context.get("runAsNonRoot") or str(context.get("runAsUser", "1")) == "0":
            yield name


def _named(compiled: Compiled) -> Iterator[str]:
    if not _NAME.fullmatch(name := str(compiled.spec["pipelineInfo"]["name"])):
        yield name


RULES = (
    Rule("name", "sdk/python/kfp/dsl/utils.py:117 takes a-z, 0-9 and -, at most 128", _named),
    Rule(
        "placeholders",
        "the launcher fills in only its own, and only {{$}} in the program's name:"
        " component/launcher_v2.go:1051-1173",
        _placeholders,
    ),
    Rule(
        "executor input",
        "the launcher reads a step's metadata at outputs.outputFile of {{$}}, and nowhere else:"
        " driver/driver.go:800-807",
        _told_where_to_write,
    ),
    Rule(
        "macros",
        "nobody fills in [[ScheduledTime]]: backend/src/apiserver/template/v2_template.go:346-371",
        _no_macro,
    ),
    Rule(
        "dollar",
        "the kubelet reads $(NAME) and $$ in a pod's command and environment, where the driver writes values:"
        " driver/driver.go:307-337",
        _no_dollar,
    ),
    Rule(
        "templates",
        "Argo, driver and launcher look for {{ in values too: component/launcher_v2.go:1066-1070",
        _no_template,
    ),
    Rule("finite", "protojson knows no NaN and no infinity: component/launcher_v2.go:1054, 1232", _finite),
    Rule(
        "retries",
        "backoffMaxDuration is Argo's maxDuration: after it nothing is tried, and a running pod is killed:"
        " compiler/argocompiler/container.go:640-675",
        _retries_last,
    ),
    Rule(
        "tmp",
        "the launcher makes /tmp/kfp/outputs, and mounts nothing at /tmp: driver/driver.go:794-798,"
        " compiler/argocompiler/container.go:536-565",
        _writable_tmp,
    ),
    Rule("requests", "a namespace with a quota refuses pods that ask for nothing", _requests),
    Rule(
        "pure", "the cache knows nothing of the world: only these may be answered from it", _only_pure_cached
    ),
    Rule(
        "digest", "the cache's key has the image's name alone: cacheutils/cache.go:222-226", _cached_by_digest
    ),
    Rule("registry", "without MLFLOW_TRACKING_URI a step registers into its own pod", _has_registry),
    Rule(
        "variables",
        "a variable given twice becomes one with `value` and `valueFrom`, and Kubernetes refuses the pod:"
        " driver/k8s.go:386",
        _variables_once,
    ),
    Rule("not root", "a namespace with the restricted security standard refuses other pods", _not_root),
)
