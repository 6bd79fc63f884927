"""The metrics that a task's models are measured by: those it names, and the gate's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from retrainer import metrics
from retrainer.gate.measured import Known, Measured, measure
from retrainer.gate.pair import Pair

if TYPE_CHECKING:
    import pyarrow as pa

    from retrainer.metrics._protocol import Metric


class HasMetrics(Protocol):
    """A task, which may have `titles` too: what reports call a metric there (`retrainer.tasks._protocol`)."""

    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Scores:
    """Metrics and their titles by name, in reading order, the task's first one first.

    `gate_metric` is the one that the gate goes by.
    """

    metrics: Mapping[str, Metric]
    titles: Mapping[str, str]
    gate_metric: str
    # What was measured already, with the tables themselves: a model meets several others on the same rows.
    _known: list[tuple[pa.Table, pa.Table, dict[str, Measured]]] = field(default_factory=list, repr=False)

    @property
    def task_metric(self) -> str:
        """The task's first one."""
        return next(iter(self.metrics))

    @property
    def gate_title(self) -> str:
        return self.titles[self.gate_metric]

    def measured(self, predictions: pa.Table, truth: pa.Table) -> dict[str, Measured]:
        """Of one model. Raises UserError that names a metric that these predictions do not allow."""
        for its_predictions, its_truth, found in self._known:
            if its_predictions is predictions and its_truth is truth:
                return found
        made: Known = {}
        found = {
            name: measure(metric, name, predictions, truth, made) for name, metric in self.metrics.items()
        }
        self._known.append((predictions, truth, found))
        return found

    def pairs(self, mine: pa.Table, its: pa.Table, truth: pa.Table) -> dict[str, Pair]:
        """Of two models' predictions, which `Task.comparable` has prepared."""
        first, second = (self.measured(one, truth) for one in (mine, its))
        return {name: Pair(first[name], second[name]) for name in self.metrics}

    def about(self) -> dict[str, dict[str, Any]]:
        """What readers of figures need to know of each metric."""
        return {
            name: {
                "title": self.titles[name],
                "unit": metric.UNIT,
                "higher_is_better": metric.HIGHER_IS_BETTER,
            }
            for name, metric in self.metrics.items()
        }


def scores_of(task: HasMetrics, chosen: str = "") -> Scores:
    """The task's metrics, and `chosen`, which is `gate.metric`. Raises UserError for an unknown one."""
    found = {name: metrics.load(name, "the task's metrics") for name in task.metrics}
    if chosen and chosen not in found:
        found[chosen] = metrics.load(chosen, "gate.metric")
    own = getattr(task, "titles", {})
    titles = {name: own.get(name, metric.TITLE) for name, metric in found.items()}
    return Scores(found, titles, chosen or task.metrics[0])
