"""One run of a recipe on the cluster: compile it, hand it to Kubeflow Pipelines, follow it if asked to."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kfp_server_api
import yaml

from pipelines.cluster.connection import Connection, Unanswered, connect
from pipelines.cluster.runs import follow
from pipelines.compile import Compiled, compile_recipe
from pipelines.kubeflow import Images
from pipelines.prediction import Scoring
from retrainer.services.expected_cost import expected
from retrainer.settings import Evaluation


def submit(
    recipe: str | None,
    overrides: list[str],
    images: Images,
    wait: bool = False,
    root: Path = Path(),
    scoring: Scoring | None = None,
) -> int:
    """`make submit`: starts one run and prints its id and link. With `wait`, returns 1 when the run fails."""
    connection = connect()
    compiled = compile_recipe(recipe, overrides, images, root, scoring=scoring)
    if scoring is None and (cost := expected_cost(compiled)):
        print(cost, flush=True)
    run_id = start(connection, compiled)
    print(f"run {run_id} of {compiled.recipe}: {connection.link(run_id)}", flush=True)
    return follow(connection, run_id) if wait else 0


def expected_cost(compiled: Compiled) -> str:
    """A line, or nothing; its rows are known to nobody before ingest has run."""
    what = {name: compiled.settings[name] for name in ("task", "backbone", "training", "compute")}
    rates = Evaluation.parse(compiled.settings["evaluation"], "evaluation").cost
    return expected(what, None, rates, compiled.experiment)


def pipeline_spec(path: Path) -> dict[str, Any]:
    """The compiled file as the API takes it: the pipeline alone, or with its platform's part beside it."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    parts = list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=loader))
    return {"pipeline_spec": parts[0], "platform_spec": parts[1]} if len(parts) > 1 else dict(parts[0])


def runtime_config() -> Any:
    """KFP_PIPELINE_ROOT, where it is set, says where artifacts go; else the cluster's own default."""
    return kfp_server_api.V2beta1RuntimeConfig(
        parameters={}, pipeline_root=os.environ.get("KFP_PIPELINE_ROOT") or None
    )


def start(connection: Connection, compiled: Compiled) -> str:
    """Starts a run and returns its id; also when the answer was lost, and only the run itself tells."""
    experiment = connection.experiment_id(compiled.experiment, create=True)
    name = f"{compiled.recipe} {datetime.now(UTC):%Y-%m-%d %H:%M:%S} {secrets.token_hex(2)}"
    body = kfp_server_api.V2beta1Run(
        display_name=name,
        experiment_id=experiment,
        pipeline_spec=pipeline_spec(compiled.path),
        runtime_config=runtime_config(),
        service_account=compiled.cluster.service_account or None,
    )
    try:
        return str(connection.runs.run_service_create_run(body).run_id)
    except Unanswered as error:
        found = connection.find_runs(experiment, display_name=name)
        if not found:
            raise error from None
        return str(found[0].run_id)
