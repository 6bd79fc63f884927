"""DVC, called in this process: half a second quicker than its command line, and it speaks our words.

DVC decides what must run, restores what it has seen before, and starts each step's command line. Importing it
takes long, and waits until it is needed.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["DVC_NO_ANALYTICS"] = "1"

from pipelines._steps_ahead import StepsAhead
from retrainer.errors import SettingError, UserError
from retrainer.formats.files import write_json
from retrainer.resolve import RUN
from retrainer.services.database import locked

# Names for `dvc.yaml` the recipes that were ever run. In git, so that DVC can read an older commit, or a
# fresh clone.
RECIPES = "recipes/stages.json"

Say = Callable[[str], None]


@dataclass
class Outcome:
    """What became of each step, in order: `ran`, `restored` or `unchanged`; and the step that failed.

    exit_status: of the failed step's command; None when that step did not come to run.
    put_back: whether that step's outputs are those of before.
    """

    steps: dict[str, str] = field(default_factory=dict)
    failed: str = ""
    reason: str = ""
    exit_status: int | None = None
    put_back: bool = True

    @property
    def idle(self) -> bool:
        return not self.failed and set(self.steps.values()) <= {"unchanged"}


class _Watch(logging.Handler):
    """Turns what DVC logs about a stage into one heading, and passes its warnings on."""

    def __init__(self, outcome: Outcome, say: Say) -> None:
        super().__init__(logging.INFO)
        self.outcome = outcome
        self.say = say

    def emit(self, record: logging.LogRecord) -> None:
        message = str(record.msg)
        if message.startswith("Running stage"):
            self._tell(record, "ran", "")
        elif "is cached - skipping run" in message:
            self._tell(record, "restored", ": restored, as these inputs and settings were seen before")
        elif "didn't change, skipping" in message:
            self.outcome.steps[step_of(str(_first(record)))] = "unchanged"
        elif record.levelno >= logging.WARNING or os.environ.get("DEBUG") == "1":
            self.say(f"dvc: {record.getMessage()}")

    def _tell(self, record: logging.LogRecord, state: str, words: str) -> None:
        step = step_of(str(_first(record)))
        self.outcome.steps[step] = state
        self.say(f"── {step}{words}")


def _first(record: logging.LogRecord) -> Any:
    return record.args[0] if isinstance(record.args, tuple) and record.args else ""


def step_of(address: str) -> str:
    """`train@digits-mlp` → `train`."""
    return address.partition("@")[0]


def name_recipe(recipe: str, known: Collection[str], root: Path) -> None:
    """Gives the recipe its stages, beside those of the `known` recipes that had theirs already.

    What a recipe that was never run would read and write, DVC does not have: it would warn of each at a pull.
    """
    path = root / RECIPES
    (root / RUN).mkdir(exist_ok=True)
    with locked(root / RUN / "stages.lock"):
        before = _named(path)
        wanted = sorted({recipe, *(name for name in before if name in known)})
        if before != wanted:
            write_json(path, {"recipes": wanted})


def _named(path: Path) -> list[str]:
    """Raises UserError for a file that a person, or a merge, has spoilt."""
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["recipes"]
    except (ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, list):
        raise SettingError(
            f'{path}: needed is {{"recipes": ["NAME", …]}}, the recipes that were ever run;'
            f" `git checkout {RECIPES}` brings back what was committed"
        )
    return [str(name) for name in found]


def reproduce(
    targets: list[str],
    root: Path,
    say: Say,
    after_step: Callable[[], None],
    alone: bool = False,
    run_cache: bool = True,
    ahead: StepsAhead | None = None,
) -> Outcome:
    """Brings the stages `targets` and all before them up to date; `alone`: runs just these, in any case.

    Without `run_cache` nothing is restored from earlier runs. `ahead` starts the steps' processes.

    A step that fails has said why by itself. What its stage had before is put back from DVC's cache, since
    DVC deletes a stage's outputs before it runs.
    """
    if ahead is not None:
        ahead.begin()
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    outcome, stages = Outcome(), _Stages(after_step)
    _listen(outcome, say)
    with _opened(root) as repo:
        try:
            repo.reproduce(targets, repro_fn=stages.run, single_item=alone, force=alone, run_cache=run_cache)
        except LockError as error:
            raise UserError(f"DVC: {' '.join(str(error).split())}") from None
        except DvcException as error:
            if stages.current is None:
                raise UserError(f"DVC: {_chain(error)}") from None
            _note_failure(outcome, stages.current, error)
            if ahead is not None:
                ahead.end()  # of a step that was killed nothing may write any more
            outcome.put_back = _put_back(repo, stages.current)
    return outcome


def _opened(root: Path) -> Any:
    from dvc.repo import Repo
    from dvc.scm import SCMError

    try:
        return Repo(str(root), _wait_for_lock=True)
    except SCMError:
        raise SettingError(
            f"{root.absolute()} is no git repository, where DVC keeps what it knows of data and models: run"
            " `git init && git add -A && git commit -m start` here, then this again"
        ) from None


def _listen(outcome: Outcome, say: Say) -> None:
    logger = logging.getLogger("dvc")
    logger.handlers, logger.propagate = [_Watch(outcome, say)], False
    logger.setLevel(logging.INFO)


class _Stages:
    """Runs each stage for DVC, and remembers which one was the last to begin."""

    def __init__(self, after_step: Callable[[], None]) -> None:
        self.current: Any = None
        self._after_step = after_step

    def run(self, stage: Any, **options: Any) -> Any:
        from dvc.repo.reproduce import _reproduce_stage

        self.current = stage
        done = _reproduce_stage(stage, **options)
        if done:
            self._after_step()
        return done


def _note_failure(outcome: Outcome, stage: Any, error: Exception) -> None:
    from dvc.stage.exceptions import StageCmdFailedError

    outcome.failed = step_of(stage.addressing)
    ran = isinstance(error.__cause__, StageCmdFailedError)
    outcome.reason = "" if ran else _chain(error)
    outcome.exit_status = _exit_status(_chain(error)) if ran else None


def _exit_status(message: str) -> int | None:
    """DVC tells it in its sentence alone. A signal's is 128 and its number, as a shell tells it."""
    told = re.search(r"exited with (-?\d+)$", message)
    status = int(told[1]) if told else None
    return 128 - status if status is not None and status < 0 else status


def _chain(error: BaseException) -> str:
    """The innermost message: DVC's outer ones only repeat the stage's name."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())


def _put_back(repo: Any, stage: Any) -> bool:
    """Whether the stage's outputs are as they were before, as far as DVC keeps any."""
    from dvc.exceptions import DvcException

    if all(out.hash_info and (out.use_cache and not out.persist) for out in stage.outs):
        try:
            repo.checkout(targets=[stage.addressing], force=True)
        except (DvcException, OSError) as error:
            print(f"dvc: {_chain(error)}", file=sys.stderr)
            return False
    return True
