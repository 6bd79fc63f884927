"""What Kubeflow's exit task tells: it may take no output of the steps, so it asks MLflow by the run's id.

nothing tagged with the run         it failed before a model was judged
a run `evaluate` names its model    the version that holds it, and whether the champion moved to it
a run `decide` that does not train  it ended before it trained, and that is a success
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from retrainer.errors import UserError
from retrainer.messages import logger
from retrainer.notify.deliver import Delivery, deliver
from retrainer.notify.event import Event, Kind, judgement_of
from retrainer.registry.history import DONE, moves
from retrainer.services import lineage, lookup, runs_over_rest
from retrainer.services.address import page_of_run, tracking_uri
from retrainer.services.outbox import RunsOutbox
from retrainer.services.readers import MODEL_SHA256, RegisteredVersion
from retrainer.services.runs import DECISION, TRAIN
from retrainer.services.runs_over_rest import FoundRun
from retrainer.services.webhook import Patience
from retrainer.services.workflow import failed_step

_LOG = logger("notify")

STEP = "retrainer.step"

# Nobody waits for a pod that ends, and a receiver that is upgraded is away for minutes.
PATIENCE = Patience(tries=8, first_wait=2.0, total_seconds=300.0)


@dataclass(frozen=True)
class Run:
    """A Kubeflow run as its exit task knows it. `state` is Kubeflow's word for the steps together.

    `began` is empty when Kubeflow did not say it.
    """

    recipe: str
    model: str
    state: str
    began: str
    steps: tuple[str, ...]


def tell(run: Run, patience: Patience = PATIENCE) -> Delivery:
    """Composes the event and sends it; what cannot be delivered waits in MLflow."""
    return deliver(what_happened(run), RunsOutbox(), patience)


def what_happened(run: Run) -> Event:
    run_id = lineage.of_process().get(lineage.KFP_RUN_ID, "")
    about = {} if run.state == "FAILED" else _outcome(run, run_id)
    kind: Kind = about.pop("event", "failed")
    if kind == "failed":
        about = _failure(run.steps)
    now = datetime.now(UTC)
    return Event(
        event=kind,
        # The same when the pod is tried again.
        id=hashlib.sha256(f"{run_id} {kind}".encode()).hexdigest()[:16],
        recipe=run.recipe,
        time=now.isoformat(timespec="seconds"),
        kfp_run_id=run_id,
        seconds=_seconds(run.began, now),
        **({"model": run.model} | about),
    )


def _outcome(run: Run, run_id: str) -> dict[str, Any]:
    """What MLflow knows of the run; nothing when it knows nothing and Kubeflow does not call it a success."""
    complete = {"event": "finished"} if run.state in ("COMPLETE", "SUCCEEDED") else {}
    try:
        found = runs_over_rest.search(tracking_uri(), {lineage.KFP_RUN_ID: run_id})
        judged = [one for one in found if one.tags.get(STEP) == "evaluate"]
        if judged and (registered := _registered(run, judged[0])):
            return registered
        if any(one.tags.get(DECISION, TRAIN) != TRAIN for one in found):
            champion = lookup.state(run.model)[lookup.CHAMPION]
            return {"event": "nothing-new", "step": "decide", "champion": champion}
    except (UserError, ImportError) as error:  # some servers only answer to MLflow's own client
        _LOG.warning("MLflow does not say what came of the run: %s", error)
    return complete


def _registered(run: Run, judged: FoundRun) -> dict[str, Any]:
    """The version that holds the judged model, and whether the champion moved to it during this run."""
    version = lookup.by_sha256(run.model, judged.tags.get(MODEL_SHA256, ""))
    if version is None:
        return {}
    champion = lookup.state(run.model)[lookup.CHAMPION]
    moved = [move for move in moves(run.model) if move.to == version.version and move.state == DONE]
    promoted = any(move.how == "register" and _since(move.when, run.began) for move in moved)
    kind = "promoted" if promoted else "nothing-new" if champion == version.version else "refused"
    return {
        "event": kind,
        "step": "register" if kind == "nothing-new" else None,
        "version": version.version,
        "champion": champion,
        "verdict": judged.tags.get("verdict"),
        **_judgement(version, judged),
        "link": page_of_run(judged.run_id),
    }


def _judgement(version: RegisteredVersion, judged: FoundRun) -> dict[str, Any]:
    """The tags of a version that was there before tell of an older judgement."""
    ours = version.tags.get("evaluation_run_id") == judged.run_id
    return judgement_of(version.tags) if ours else {}


def _failure(steps: Iterable[str]) -> dict[str, Any]:
    try:
        failure = failed_step(steps)
    except UserError as error:
        _LOG.warning("which step failed is not known: %s", error)
        return {}
    return {} if failure is None else vars(failure)


def _since(when: str, began: str) -> bool:
    """Whether a move was made during the run; true when nobody knows when that began."""
    start, moment = _moment(began), _moment(when)
    return start is None or moment is None or moment >= start


def _seconds(began: str, now: datetime) -> float | None:
    start = _moment(began)
    return None if start is None else round((now - start).total_seconds(), 1)


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def state_of(status: str) -> str:
    """`state` of the PipelineTaskFinalStatus that Kubeflow passes as JSON; empty when it passes none."""
    try:
        content = json.loads(status)
    except ValueError:
        return ""
    return str(content.get("state", "")) if isinstance(content, dict) else ""
