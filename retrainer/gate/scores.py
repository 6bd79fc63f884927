"""The metrics that a task's models are measured by: those it names, and the gate's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retrainer import metrics
from retrainer.gate.measured import Measured, Pair, measure

if TYPE_CHECKING:
    import pyarrow as pa

    from retrainer.metrics._protocol import Metric


@dataclass(frozen=True)
class Scores:
    """Metrics by name, in reading order. `chosen` is the gate's, `headline` the task's first one."""

    metrics: Mapping[str, Metric]
    chosen: str
    headline: str

    def measured(self, predictions: pa.Table, truth: pa.Table) -> dict[str, Measured]:
        """Of one model. Raises UserError that names a metric that these predictions do not allow."""
        return {name: measure(metric, name, predictions, truth) for name, metric in self.metrics.items()}

    def pairs(self, mine: pa.Table, its: pa.Table, truth: pa.Table) -> dict[str, Pair]:
        """Of two models' predictions, which `Task.comparable` has prepared."""
        first, second = (self.measured(one, truth) for one in (mine, its))
        return {name: Pair(first[name], second[name]) for name in self.metrics}

    def about(self, titles: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """What readers of figures need to know of each metric; `titles` are the task's own words."""
        return {
            name: {
                "title": titles.get(name, metric.TITLE),
                "unit": metric.UNIT,
                "higher_is_better": metric.HIGHER_IS_BETTER,
            }
            for name, metric in self.metrics.items()
        }


def scores_of(named: Sequence[str], chosen: str = "") -> Scores:
    """`named` are the task's metrics, `chosen` is `gate.metric`. Raises UserError for an unknown one."""
    found = {name: metrics.load(name, "the task's metrics") for name in named}
    if chosen and chosen not in found:
        found[chosen] = metrics.load(chosen, "gate.metric")
    return Scores(found, chosen or named[0], named[0])
