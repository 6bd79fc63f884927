"""What `make history` says of costs: each version's, from its tags, and each year's, from all trainings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from retrainer.cost import in_words, of_runs, of_tags, short
from retrainer.errors import UserError
from retrainer.services import lookup
from retrainer.services.runs_over_rest import FoundRun
from retrainer.services.trainings import Effort, experiment_named, measured_runs
from retrainer.settings import Cluster, Evaluation, Registry, Section


def costs_of_versions(name: str) -> dict[str, str]:
    """Version → one figure of what its training cost, by the prices of the day on which it was judged."""
    costs = {version: of_tags(tags) for version, tags in lookup.tags_by_version(name).items()}
    return {version: short(cost) for version, cost in costs.items() if cost}


def costs_of_years(sections: Mapping[str, Section]) -> list[str]:
    """A line for each year in which something was trained, by today's prices; also what came to no model."""
    evaluation, registry, cluster = (sections[name] for name in ("evaluation", "registry", "cluster"))
    assert isinstance(evaluation, Evaluation)
    assert isinstance(registry, Registry)
    assert isinstance(cluster, Cluster)
    try:
        runs = measured_runs(experiment_named(cluster.experiment or registry.name))
    except UserError as error:
        return [f"what was trained, and what it cost, is not known: {error}"]
    years: dict[int, list[FoundRun]] = {}
    for run in runs:
        years.setdefault(datetime.fromtimestamp(run.began / 1000, UTC).year, []).append(run)
    spent = {year: Effort(tuple(found)).priced(evaluation.cost) for year, found in years.items()}
    return [
        f"trained in {year}: {of_runs(cost) or '1 run'}: {in_words(cost)}" for year, cost in spent.items()
    ]
