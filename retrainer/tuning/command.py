"""`make tune`: tries settings on the training and validation rows, and says which did best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from retrainer.errors import DataError, SettingError
from retrainer.formats.files import digest_of
from retrainer.settings import SECTIONS, Backbone, Evaluation, Range, Section, Training, Tune
from retrainer.tuning.data import without_test
from retrainer.tuning.search import VALIDATION, Search
from retrainer.tuning.space import Values, is_whole, options_of, own_values, said, search_space
from retrainer.tuning.study import Plan, Study, optuna_module

if TYPE_CHECKING:
    from retrainer.training.inputs import Inputs

Sections = dict[str, dict[str, Any]]
Tell = Callable[[str], None]

# What `make tune` leaves below runs/RECIPE.
FOLDER = "tune"
_TRAINED_BY = ("task", "backbone", "training", "compute")
_RUN = "mlflow_run_id"
# Of figures that are no metric of retrainer/metrics, less is better where one of these words is in the name.
_LESS_IS_BETTER = ("loss", "error")


@dataclass(frozen=True)
class Best:
    """The best trial; `own`: the figure of the recipe's own settings, where they were tried."""

    number: int
    values: Values
    value: float
    own: float | None
    metric: str

    @property
    def is_own(self) -> bool:
        """Whether no trial did better than the recipe's own settings."""
        return self.value == self.own

    def said(self) -> str:
        own = "" if self.own is None else f"; by the recipe's own settings {self.own:.5g}"
        return f"trial {self.number}: {self.metric} of the validation rows {self.value:.5g}{own}"


@dataclass(frozen=True)
class _Asked:
    """What is asked for, checked: by which `sections` a trial trains, but for its own values."""

    tune: Tune
    evaluation: Evaluation
    space: Mapping[str, Range]
    whole: frozenset[str]
    first: Values | None
    sections: Sections

    @classmethod
    def of(cls, resolved: Sections) -> _Asked:
        names = (*_TRAINED_BY, "tune", "evaluation")
        parsed: dict[str, Section] = {name: SECTIONS[name].parse(resolved[name], name) for name in names}
        training, backbone = cast(Training, parsed["training"]), cast(Backbone, parsed["backbone"])
        tune, evaluation = cast(Tune, parsed["tune"]), cast(Evaluation, parsed["evaluation"])
        _require_tunable(training)
        space = search_space(parsed)
        sections = {name: dict(resolved[name]) for name in _TRAINED_BY}
        threads = int(sections["compute"]["threads"])
        sections["compute"]["threads"] = max(1, threads // tune.jobs)
        options = options_of(backbone)
        own = options.parse(backbone.options, "backbone").plain() if options else {}
        known = {"backbone": own | sections["backbone"]}
        whole = frozenset(key for key in space if is_whole(key, backbone))
        return cls(tune, evaluation, space, whole, own_values(space, sections | known), sections)

    @property
    def maximise(self) -> bool:
        from retrainer import extend, metrics

        name = self.tune.metric
        if name in extend.builtin_names("metrics"):
            return metrics.load(name, "tune.metric").HIGHER_IS_BETTER
        return not any(word in name for word in _LESS_IS_BETTER)

    def shared(self) -> Sections:
        """What all trials have, for the tuning's own run."""
        return {
            name: {key: value for key, value in section.items() if f"{name}.{key}" not in self.space}
            for name, section in (self.sections | {"tune": self.tune.plain()}).items()
        }

    def plan(self, inputs: Inputs) -> Plan:
        space = {key: searched.plain() for key, searched in self.space.items()}
        tune = self.tune
        same = [inputs.digest(), space, tune.seed, tune.jobs, tune.metric, tune.prune]
        epochs = inputs.settings.training.epochs
        return Plan(
            digest_of(same),
            self.space,
            self.whole,
            self.first,
            tune.seed,
            tune.jobs,
            epochs,
            self.maximise,
            tune.prune,
        )


def _require_tunable(training: Training) -> None:
    if training.command:
        raise SettingError(
            "training.command: your own trainer tells no figures of the validation rows by epoch, by which"
            " trials are compared; tune it by its own means"
        )
    if training.privacy.epsilon:
        raise SettingError(
            "training.privacy.epsilon: every trial would spend as much again of the rows' privacy; tune on"
            " public rows of the same kind, with privacy.epsilon 0"
        )


def check(resolved: Sections) -> None:
    """Raises UserError for what cannot be tuned, before anything runs."""
    optuna_module()
    _Asked.of(resolved)


def tune(resolved: Sections, folder: Path, tell: Tell) -> Best:
    """`resolved`: the recipe's sections; `folder` has its dataset and gets `tune/study.db`.

    Raises UserError for settings that cannot be tuned, and where no trial came to its end.
    """
    from retrainer.models import reads_weights
    from retrainer.services import weights
    from retrainer.services.scratch import scratch_directory
    from retrainer.training.inputs import Inputs, Settings

    asked = _Asked.of(resolved)
    settings = Settings.parse(asked.sections)
    reads = reads_weights(settings.backbone, settings.training)
    start = weights.fetch(settings.backbone) if reads else None
    with scratch_directory() as scratch:
        inputs = Inputs(without_test(folder / "dataset", scratch / "dataset"), settings, start)
        study = Study(asked.plan(inputs), folder / FOLDER)
        _announce(asked, study, inputs, tell)
        with _tracked(asked, study, inputs) as run_id:
            figure = VALIDATION + asked.tune.metric
            search = Search(study, asked.sections, inputs.dataset, start, figure, run_id, tell)
            search.run(asked.tune.trials, asked.tune.jobs)
    return _best(asked, study)


def _announce(asked: _Asked, study: Study, inputs: Inputs, tell: Tell) -> None:
    """What is going to be tried, and what it will cost, before anything begins."""
    from retrainer.services.expected_cost import expected

    tune, done = asked.tune, len(study.finished())
    goes_on = f"; {done} of them are done, by an earlier call" if done else ""
    tell(f"{tune.trials} trials, {tune.jobs} at a time{goes_on}, of {said(asked.space)}")
    better = "greater" if asked.maximise else "smaller"
    tell(f"sought: {tune.metric} of the validation rows, {better} is better; no test row is read")
    if asked.first is None:
        tell("the recipe's own settings lie outside of these ranges, so they are no trial")
    if left := max(0, tune.trials - done):
        rows, rates = inputs.data.manifest["rows"], asked.evaluation.cost
        unknown = "what it will cost is not known: MLflow knows no training of this recipe"
        tell(expected(asked.sections, rows, rates, trainings=left) or unknown)


@contextmanager
def _tracked(asked: _Asked, study: Study, inputs: Inputs) -> Iterator[str]:
    """The id of the tuning's run in MLflow, which ends with the block."""
    from retrainer.services.tuning_run import TuningRun

    run = TuningRun(study.remembered(_RUN), asked.shared(), inputs.dataset)
    study.remember(_RUN, run.run_id)
    try:
        yield run.run_id
    except BaseException as error:
        run.finish({}, {}, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    best = study.best()
    tags = {} if best is None else {"retrainer.best_trial": str(best.number)}
    trials = study.trials()
    pruned = sum(one.value is None or one.state.name == "PRUNED" for one in trials)
    figures = {"tune.trials": float(len(trials)), "tune.pruned": float(pruned)}
    run.finish(figures | ({"tune.value": best.value} if best is not None else {}), tags)


def _best(asked: _Asked, study: Study) -> Best:
    best, first = study.best(), study.trials()[0]
    if best is None:
        raise DataError("no trial came to its end; make ui says of each why, and tune.search may be too wide")
    own = first.value if asked.first is not None and first.state == best.state else None
    return Best(best.number, study.values(best.params), best.value, own, asked.tune.metric)
