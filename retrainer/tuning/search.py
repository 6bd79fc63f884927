"""Runs the trials of a study that are still to be done, several at a time where it is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrainer.errors import ServiceError, SettingError, nearest
from retrainer.tuning.space import Values, with_values
from retrainer.tuning.study import Study, Suggested
from retrainer.tuning.trial import COMPLETE, EPOCH, ERROR, Job, Outcome
from retrainer.tuning.workers import Worker, with_messages, workers

# Before the figures of the validation rows, in a history.
VALIDATION = "validation_"


@dataclass(frozen=True)
class Search:
    """`sections`: the recipe's own, resolved, of which a trial changes some values; `figure`: the name in the
    history of what trials are compared by; `parent`: the id of the tuning's run in MLflow; `tell` gets a line
    of each trial that has ended."""

    study: Study
    sections: Mapping[str, Mapping[str, Any]]
    dataset: Path
    weights: Path | str | None
    figure: str
    parent: str
    tell: Callable[[str], None]

    def run(self, trials: int, jobs: int) -> None:
        """Runs trials, `jobs` at a time, until the study has so many. Raises UserError for what would end
        every trial."""
        done = self.study.finished()
        waiting = [number for number in range(trials) if number not in done]
        running: dict[int, _Running] = {}
        if not waiting:
            return
        with workers(min(jobs, len(waiting))) as started:
            while waiting or running:
                for worker in started:
                    if not worker.busy and waiting and self.study.ready(waiting[0]):
                        running[id(worker)] = self._start(worker, waiting.pop(0), trials)
                for worker in with_messages(started):
                    self._receive(worker, running)

    def _start(self, worker: Worker, number: int, trials: int) -> _Running:
        suggested = self.study.suggest(number)
        sections = with_values(self.sections, suggested.values)
        worker.start(Job(number, sections, self.dataset, self.weights, self.figure, self.parent))
        return _Running(suggested, time.monotonic(), trials)

    def _receive(self, worker: Worker, running: dict[int, _Running]) -> None:
        trial = running[id(worker)]
        kind, content = worker.receive()
        if kind == EPOCH:
            epoch, figures = content
            worker.pipe.send(self.study.should_prune(trial.suggested, epoch, self._compared_by(figures)))
            return
        worker.busy = False
        del running[id(worker)]
        if kind == ERROR:
            raise ServiceError(f"trial {trial.suggested.number}: {content}")
        self.study.finish(trial.suggested, content)
        self.tell(trial.told(content))

    def _compared_by(self, figures: Mapping[str, float]) -> float:
        if self.figure not in figures:
            known = [name.removeprefix(VALIDATION) for name in figures if name.startswith(VALIDATION)]
            name = self.figure.removeprefix(VALIDATION)
            raise SettingError(
                f"tune.metric: training shows no {name} of the validation rows{nearest(name, known)}"
            )
        return figures[self.figure]


@dataclass(frozen=True)
class _Running:
    suggested: Suggested
    began: float
    trials: int

    def told(self, outcome: Outcome) -> str:
        value = f"{outcome.value:.5g}" if outcome.state == COMPLETE else f"{outcome.state} {outcome.note}"
        took = f"{time.monotonic() - self.began:.0f} s"
        title = f"trial {self.suggested.number} of {self.trials}"
        return f"{title}: {as_typed(self.suggested.values)}: {value} ({took})"


def as_typed(values: Values) -> str:
    """As people type them after SET=."""
    return " ".join(f"{key}={value}" for key, value in values.items())
