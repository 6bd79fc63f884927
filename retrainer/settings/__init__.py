"""The settings: one frozen section per concern. A default lives here, once.

`params.yaml` and a recipe are read by `retrainer.resolve` alone; a step gets its sections.
Sections that carry a `kind` or `family` accept further keys: those belong to the chosen file
(`retrainer/tasks/<kind>.py`, `retrainer/models/<family>.py`) and are checked by its `Options`.
"""

from __future__ import annotations

from retrainer.settings.cluster import Cluster, Resources, Toleration
from retrainer.settings.data import Checks, Level, Limit, Source, Split
from retrainer.settings.judging import Evaluation, Gate, Registry, Retrain
from retrainer.settings.privacy import Privacy
from retrainer.settings.rates import Rates
from retrainer.settings.section import OpenSection, Section
from retrainer.settings.training import Backbone, Compute, Task, Training
from retrainer.settings.tune import Range, Tune

__all__ = [
    "SECTIONS",
    "SHORTHAND",
    "Backbone",
    "Checks",
    "Cluster",
    "Compute",
    "Evaluation",
    "Gate",
    "Level",
    "Limit",
    "OpenSection",
    "Privacy",
    "Range",
    "Rates",
    "Registry",
    "Resources",
    "Retrain",
    "Section",
    "Source",
    "Split",
    "Task",
    "Toleration",
    "Training",
    "Tune",
]

SECTIONS: dict[str, type[Section]] = {
    "source": Source,
    "split": Split,
    "checks": Checks,
    "task": Task,
    "retrain": Retrain,
    "backbone": Backbone,
    "training": Training,
    "compute": Compute,
    "tune": Tune,
    "evaluation": Evaluation,
    "gate": Gate,
    "registry": Registry,
    "cluster": Cluster,
}

# `source: data.csv` in one line: the key that a bare word stands for.
SHORTHAND = {"task": "kind", "backbone": "family", "registry": "name", "retrain": "policy"}
