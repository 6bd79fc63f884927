"""The laptop's door: resolve the settings, let DVC run what they change, and say what came of it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from components._process import NO_ROOM, is_full_disk
from components.command import step_named
from components.steps import DECIDE, STEPS, STEPS_WITHOUT_DECIDE
from pipelines._dvc import Outcome, name_recipe, reproduce
from pipelines._forget import forget_stale_verdict, forget_what_the_registry_lost, read_if_there
from pipelines._recipe_lock import RUNNER, keep_dvc_lock, recipe_lock
from pipelines._steps_ahead import StepsAhead, steps_ahead
from pipelines._unchanged import is_known, remember, snapshot
from retrainer.contract import contract_of, edges
from retrainer.cost import number
from retrainer.errors import SettingError, UserError, nearest
from retrainer.kept_reports import keep_report
from retrainer.notify.local import Notifier
from retrainer.resolve import Resolved, default_recipe, known_recipes, recipe_name, resolve
from retrainer.services import lookup
from retrainer.services.lineage import git_commit

RUNS = Path("runs")

# How a shell tells Ctrl-C and SIGKILL, which is how the kernel takes memory back.
_INTERRUPTED, _KILLED = 130, 137


def run(recipe: str | None, overrides: list[str], root: Path = Path(), ask: bool = False) -> int:
    """`make pipeline`: brings the recipe's registered version up to date. Returns the exit status.

    With `ask`, as `make retrain` does, the step decide comes before the training: that there is nothing to
    train is a success.
    """
    name = recipe_name(recipe, root)
    notifier = Notifier(name, root)
    try:
        outcome, resolved, decision = _brought_up_to_date(overrides, root, notifier, ask)
    except Exception as error:
        _say(notifier.failed("", 2 if isinstance(error, UserError) else 1), sys.stderr)
        raise
    if outcome.failed:
        _say(_registered_all_the_same(outcome, resolved, root))
        return _stopped(outcome, resolved, notifier)
    if decision.get("choice") == "stop":
        _say(notifier.nothing_new(decision["name"], decision["champion"]["version"]))
    elif outcome.idle:
        _say(_up_to_date(resolved, root))
        _say(notifier.unchanged())
    else:
        _say(_closing(resolved, root, notifier, decision))
    return 0


def _brought_up_to_date(
    overrides: list[str], root: Path, notifier: Notifier, ask: bool
) -> tuple[Outcome, Resolved, dict[str, Any]]:
    """What became of the steps, by which settings, and the decision where one was asked for."""
    name = notifier.recipe
    with recipe_lock(name, root) as last_was_killed:
        keep_report(root / RUNS / name)  # before a step replaces it
        if last_was_killed:
            _say(notifier.last_was_killed(), sys.stderr)
        resolved = prepare(name, overrides, root)
        with steps_ahead(resolved, root) as ahead:
            outcome, decision = _decided(resolved, root, ahead) if ask else (Outcome(), {})
            if outcome.failed or decision.get("choice") == "stop":
                return outcome, resolved, decision
            forget_what_the_registry_lost(
                outputs(resolved, root), resolved.settings["registry"]["name"], _say
            )
            outcome = _made(resolved, root, ahead)
        if not (outcome.failed or outcome.idle):
            keep_report(outputs(resolved, root), resolved.settings, git_commit())
    return outcome, resolved, decision


def _made(resolved: Resolved, root: Path, ahead: StepsAhead) -> Outcome:
    """Runs what has changed since the last time, up to the last steps."""
    name = resolved.settings["registry"]["name"]
    state = snapshot(resolved, root)
    if is_known(resolved, state):
        return Outcome()
    outcome = _reproduce(last_steps(), resolved, root, ahead=ahead)
    if outcome.failed == "register" and forget_stale_verdict(outputs(resolved, root), name):
        _say("── the champion or the anchor changed while this model was judged: judging it again")
        outcome = _reproduce(last_steps(), resolved, root, ahead=ahead)
    if outcome.idle:
        remember(resolved, state)
    return outcome


def last_steps() -> list[str]:
    """Of the steps that every run has, those for whose outputs no other waits."""
    contracts = [contract_of(step_named(step)) for step in STEPS_WITHOUT_DECIDE]
    producers = {producer for producer, _, _ in edges(contracts)}
    return [contract.name for contract in contracts if contract.name not in producers]


def _decided(resolved: Resolved, root: Path, ahead: StepsAhead) -> tuple[Outcome, dict[str, Any]]:
    """The data as they are today, and the decision on them: always anew, since it reads the registry."""
    outcome = preprocessed(resolved, root, ahead)
    if not outcome.failed:
        outcome = _reproduce([DECIDE], resolved, root, alone=True, ahead=ahead)
    made = {} if outcome.failed else read_if_there(outputs(resolved, root) / "decision" / "decision.json")
    return outcome, made or {}


def preprocessed(resolved: Resolved, root: Path, ahead: StepsAhead | None = None) -> Outcome:
    """Brings the recipe's dataset up to date, and nothing behind it."""
    return _reproduce(["preprocess"], resolved, root, ahead=ahead)


def run_step(step: str, recipe: str | None, overrides: list[str], root: Path = Path()) -> int:
    """`make step`: runs one step now, on its inputs as they lie; `dvc.lock` records what it made."""
    if step not in STEPS:
        raise SettingError(f"STEP={step}: no such step{nearest(step, STEPS)}")
    name = recipe_name(recipe, root)
    with recipe_lock(name, root):
        resolved = prepare(name, overrides, root)
        outcome = _reproduce([step], resolved, root, alone=True)
    return _stopped(outcome, resolved) if outcome.failed else 0


def prepare(recipe: str | None, overrides: list[str], root: Path) -> Resolved:
    """Settles the recipe's settings, makes the recipe known to DVC, and names its experiment."""
    resolved = resolve(recipe, overrides, root, steps=STEPS)
    name_recipe(resolved.recipe, known_recipes(root, default_recipe(root)), root)
    os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", resolved.settings["registry"]["name"])
    return resolved


def _reproduce(
    steps: list[str], resolved: Resolved, root: Path, alone: bool = False, ahead: StepsAhead | None = None
) -> Outcome:
    """The steps are run by this very Python, and end when this process does."""
    here = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([here, os.environ.get("PATH", os.defpath)])
    os.environ["SHELL"] = "/bin/sh"
    os.environ[RUNNER] = str(os.getpid())
    keep: Callable[[], None] = lambda: keep_dvc_lock(root)  # noqa: E731
    # A training that a clock may cut short would not give the same bytes again.
    repeats = not resolved.settings["training"]["budget_seconds"]
    return reproduce([f"{step}@{resolved.recipe}" for step in steps], root, _say, keep, alone, repeats, ahead)


def outputs(resolved: Resolved, root: Path) -> Path:
    return root / RUNS / resolved.recipe


def _up_to_date(resolved: Resolved, root: Path) -> str:
    made = read_if_there(outputs(resolved, root) / "registration" / "registration.json") or {}
    name, version = made["name"], str(made["version"])
    aliases = lookup.state(name)
    held = [alias for alias, holder in aliases.items() if holder == version]
    rank = held[0] if held else f"the champion is version {aliases[lookup.CHAMPION] or 'none'}"
    report = RUNS / resolved.recipe / "report" / "report.html"
    done = f"Nothing to do: {resolved.recipe} is up to date (version {version}, {rank}). Report: {report}"
    if rank == lookup.CHAMPION:
        return done
    from retrainer.registry.standing import standing

    return f"{done}\nVersion {version}, {standing(name, version)}" + _judged_by_another(resolved, root)


def _judged_by_another(resolved: Resolved, root: Path) -> str:
    """A line where the model was judged beside another champion than today's. A person moved the alias, and
    may not want what a new verdict would do, so that judging again is theirs to ask for."""
    gate = (read_if_there(outputs(resolved, root) / "report" / "metrics.json") or {}).get("gate", {})
    if "champion" not in gate or lookup.champion_is(resolved.settings["registry"]["name"], gate["champion"]):
        return ""
    recipe = f"RECIPE={resolved.recipe}"
    return (
        "\nIts verdict is of another champion than today's: make step STEP=evaluate"
        f" {recipe}, then make pipeline {recipe}, judge it again"
    )


def _registered_all_the_same(outcome: Outcome, resolved: Resolved, root: Path) -> str:
    """The closing table of a run whose version is in MLflow, while the second registry could not be told."""
    from retrainer.evaluation.summary import closing_table

    made = outputs(resolved, root)
    report = read_if_there(made / "report" / "metrics.json") or {}
    registration = read_if_there(made / "registration" / "registration.json") or {}
    untold = registration.get("kubeflow", {}).get("state") == "failed"
    if (
        outcome.failed != "register"
        or not untold
        or report.get("model_sha256") != registration["model_sha256"]
    ):
        return ""
    page = RUNS / resolved.recipe / "report" / "report.html"
    return f"\n{closing_table(report, registration, page)}"


def _closing(resolved: Resolved, root: Path, notifier: Notifier, decision: dict[str, Any]) -> str:
    """The closing table, why it was trained if that was asked, and below it whether the webhook was told."""
    from retrainer.evaluation.summary import closing_table
    from retrainer.retraining.summary import decision_table

    made = outputs(resolved, root)
    report = read_if_there(made / "report" / "metrics.json") or {}
    registration = read_if_there(made / "registration" / "registration.json") or {}
    table = closing_table(report, registration, RUNS / resolved.recipe / "report" / "report.html")
    core_hours = sum(os.times()[:4]) / 3600  # of this process and of those that it has waited for: the steps
    finished = f"{resolved.recipe}: finished in {time.monotonic() - notifier.began:.0f} s"
    finished += f"; all steps took {number(core_hours)} core-hours"
    told = notifier.registered(report, registration)
    asked = ["", decision_table(decision)] if decision.get("policy", "always") != "always" else []
    return "\n".join(["", table, *asked, finished, *([told] if told else [])])


def _stopped(outcome: Outcome, resolved: Resolved, notifier: Notifier | None = None) -> int:
    """Says what stopped, to the webhook too if there is a notifier; Ctrl-C is no news to who pressed it."""
    step, place = outcome.failed, RUNS / resolved.recipe
    why = f": {outcome.reason}" if outcome.reason else " (its reason stands above)"
    if is_full_disk(outcome.reason):
        why = f": {NO_ROOM}"
    kept = "is still there" if outcome.put_back else "could not be put back; the next run makes it again"
    _say(f"stopped at {step}{why}; what {place} held of it before {kept}", sys.stderr)
    if notifier is not None and outcome.exit_status != _INTERRUPTED:
        killed = outcome.exit_status == _KILLED
        _say(notifier.failed(step, outcome.exit_status, "killed" if killed else ""), sys.stderr)
    return 1


def _say(text: str, stream: TextIO | None = None) -> None:
    if text:
        print(text, file=stream or sys.stdout, flush=True)
