"""The decision whether to train, for runs that nobody starts by hand: nothing new, no drift, or train."""

from __future__ import annotations

from retrainer.contract import HtmlView, InDataset, Metadata, OutDecision
from retrainer.settings import Backbone, Registry, Retrain, Task, Training


def decide(
    dataset: InDataset,
    decision: OutDecision,
    html: HtmlView,
    task: Task,
    backbone: Backbone,
    training: Training,
    retrain: Retrain,
    registry: Registry,
) -> Metadata:
    """Dataset → decision.json with the choice `train` or `stop`. Impure: it reads the registry's champion.

    Under the policy `always` nothing is read, and nothing is noted in MLflow.
    """
    from retrainer.formats.files import whole_directory, write_json, write_text
    from retrainer.retraining import decide as by_policy
    from retrainer.retraining.summary import decision_table, page
    from retrainer.services.tracking import log_decision

    sections = {"task": task.plain(), "backbone": backbone.plain(), "training": training.plain()}
    request = by_policy.Request(registry.name, dataset, sections, retrain)
    decided = by_policy.plain(request, by_policy.decide(request))
    with whole_directory(decision) as aside:
        write_json(aside / by_policy.FILE, decided)
    if decided["policy"] != "always":
        log_decision(decided, decision / by_policy.FILE)
    print(decision_table(decided), flush=True)
    if html is not None:
        write_text(html, page(decided))
    told = {"decision": {name: decided[name] for name in ("choice", "reason", "why")}}
    return told | ({"html": {}} if html is not None else {})
