"""What is tried next, and when a trial ends early: Optuna's TPE sampler and median pruner.

What trial n tries follows from `tune.seed` and the results of the trials 0 to n - `jobs`: trial n starts only
when all of these have finished, and never uses the results of later ones. So a study has the same trials
however long each of them takes, whether it was killed in between or not, as long as the trainings repeat.

Source of the sampler: Bergstra et al., Algorithms for Hyper-Parameter Optimization (NeurIPS 2011); of the
pruner: Golovin et al., Google Vizier (KDD 2017), section 3.2.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.errors import SettingError
from retrainer.settings import Range
from retrainer.tuning.space import Values, as_word, readable
from retrainer.tuning.trial import COMPLETE, Outcome

if TYPE_CHECKING:
    import optuna

# Trials before the sampler learns from them, and before the pruner ends any.
_RANDOM_TRIALS = 8
_NEVER_PRUNED = 4
_FILE = "study.db"
NOTE, RUN_ID = "note", "mlflow_run_id"


def optuna_module() -> Any:
    """Optuna, quiet. Raises UserError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise SettingError(
            "make tune needs optuna, which is not installed; pip install 'retrainer[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@dataclass(frozen=True)
class Plan:
    """What makes two studies the same one. `digest` is of all that decides a trial's figure; `whole`: the
    searched settings that are whole numbers; `first`: the recipe's own values, which trial 0 tries; None
    where they lie outside of the ranges."""

    digest: str
    space: Mapping[str, Range]
    whole: frozenset[str]
    first: Values | None
    seed: int
    jobs: int
    epochs: int
    maximise: bool
    prune: bool


@dataclass(frozen=True)
class Suggested:
    """A trial that runs, and the settings that it tries.

    view   the trial in a study in memory that holds only what trial `number` may use (`Study._view`)
    kept   the same trial in the study's file
    noted  epochs whose figures stand in the file: a trial that was killed repeats those since its checkpoint
    """

    number: int
    values: Values
    view: optuna.trial.Trial = field(repr=False)
    kept: optuna.trial.Trial = field(repr=False)
    noted: set[int] = field(repr=False)


class Study:
    """The trials of one plan, in `folder`/study.db, which Optuna's own tools can open too."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._optuna = optuna_module()
        self._plan = plan
        folder.mkdir(parents=True, exist_ok=True)
        self._kept = self._optuna.create_study(
            storage=f"sqlite:///{(folder / _FILE).absolute()}",
            study_name=plan.digest[:32],
            direction=self._direction,
            load_if_exists=True,
        )

    @property
    def _direction(self) -> str:
        return "maximize" if self._plan.maximise else "minimize"

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return list(self._kept.get_trials(deepcopy=False))

    def finished(self) -> set[int]:
        return {one.number for one in self.trials() if one.state.is_finished()}

    def best(self) -> optuna.trial.FrozenTrial | None:
        """The first of the best; None where no trial came to its end."""
        sign = -1.0 if self._plan.maximise else 1.0
        done = [one for one in self.trials() if one.state == self._optuna.trial.TrialState.COMPLETE]
        return min(done, key=lambda one: (sign * one.value, one.number), default=None)

    def remember(self, key: str, value: str) -> None:
        self._kept.set_user_attr(key, value)

    def remembered(self, key: str) -> str:
        return str(self._kept.user_attrs.get(key, ""))

    def ready(self, number: int) -> bool:
        """Whether all trials whose results this one uses are finished."""
        return self.finished() >= set(range(number - self._plan.jobs + 1))

    def suggest(self, number: int) -> Suggested:
        """Trial `number`; one that a killed process left unfinished keeps its values."""
        trials = self.trials()
        left = trials[number] if number < len(trials) else None
        view = self._view(number, trials)
        given = left.params if left is not None else self._first() if number == 0 else None
        if given is not None:
            view.enqueue_trial(given)
        asked = view.ask(self._distributions())
        if left is None:
            trial = self._optuna.trial
            self._kept.add_trial(
                trial.create_trial(
                    state=trial.TrialState.RUNNING, params=asked.params, distributions=self._distributions()
                )
            )
            left = self.trials()[number]
        kept = self._optuna.trial.Trial(self._kept, left._trial_id)
        return Suggested(number, self.values(asked.params), asked, kept, set(left.intermediate_values))

    def should_prune(self, trial: Suggested, epoch: int, value: float) -> bool:
        """Notes an epoch's figure; whether the trial shall end early. Never after the last epoch."""
        trial.view.report(value, epoch)
        if epoch not in trial.noted:
            trial.kept.report(value, epoch)
            trial.noted.add(epoch)
        last = trial.values.get("training.epochs", self._plan.epochs)
        return self._plan.prune and epoch < last and trial.view.should_prune()

    def finish(self, trial: Suggested, outcome: Outcome) -> None:
        state = self._optuna.trial.TrialState
        trial.kept.set_user_attr(RUN_ID, outcome.run_id)
        if outcome.note:
            trial.kept.set_user_attr(NOTE, outcome.note)
        if outcome.state == COMPLETE:
            self._kept.tell(trial.kept, outcome.value, state=state.COMPLETE)
        else:  # a trial that failed counts as one that was ended
            self._kept.tell(trial.kept, state=state.PRUNED)

    def values(self, params: Mapping[str, Any]) -> Values:
        """Settings of a trial's parameters: those of the recipe as they are, others in few digits."""
        if self._plan.first is not None and params == self._first():
            return dict(self._plan.first)
        return {
            key: json.loads(value) if self._plan.space[key].choices else readable(value)
            for key, value in params.items()
        }

    def _first(self) -> dict[str, Any] | None:
        own = self._plan.first
        if own is None:
            return None
        return {key: as_word(value) if self._plan.space[key].choices else value for key, value in own.items()}

    def _view(self, number: int, trials: list[optuna.trial.FrozenTrial]) -> optuna.Study:
        """A study in memory of the trials before `number`; those that may still run have no figures in it."""
        samplers, pruners, trial = self._optuna.samplers, self._optuna.pruners, self._optuna.trial
        view = self._optuna.create_study(
            direction=self._direction,
            sampler=samplers.TPESampler(seed=self._seed_of(number), n_startup_trials=_RANDOM_TRIALS),
            pruner=pruners.MedianPruner(_NEVER_PRUNED, n_warmup_steps=self._plan.epochs // 3),
        )
        for one in trials[:number]:
            unfinished = trial.create_trial(
                state=trial.TrialState.RUNNING, params=one.params, distributions=one.distributions
            )
            view.add_trial(one if one.number <= number - self._plan.jobs else unfinished)
        return view

    def _seed_of(self, number: int) -> int:
        return int.from_bytes(hashlib.sha256(f"{self._plan.seed} {number}".encode()).digest()[:4], "big")

    def _distributions(self) -> dict[str, Any]:
        return {key: self._distribution(key, searched) for key, searched in self._plan.space.items()}

    def _distribution(self, key: str, searched: Range) -> Any:
        kinds = self._optuna.distributions
        if searched.choices:
            return kinds.CategoricalDistribution(tuple(map(as_word, searched.choices)))
        assert searched.low is not None
        assert searched.high is not None
        if key in self._plan.whole:
            return kinds.IntDistribution(round(searched.low), round(searched.high), log=searched.log)
        return kinds.FloatDistribution(searched.low, searched.high, log=searched.log)
