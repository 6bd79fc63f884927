"""The connection to Kubeflow Pipelines, as the environment describes it.

KFP_ENDPOINT     address of its page or its API, for example https://kubeflow.example/pipeline
KFP_NAMESPACE    the profile's namespace, where Kubeflow has several users
KFP_CA_BUNDLE    certificates to trust, where the company has its own
KFP_TOKEN, …     who we are: see pipelines/cluster/token.py
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import kfp_server_api

from pipelines.cluster.client import Client, Refused, Unanswered
from pipelines.cluster.token import token_source
from retrainer.errors import SettingError
from retrainer.services.address import without_credentials

__all__ = ["Connection", "Refused", "Unanswered", "connect"]

_PAGE = 100


@dataclass(frozen=True)
class Connection:
    address: str
    namespace: str
    client: Client
    runs: Any
    schedules: Any
    experiments: Any
    pipelines: Any

    def link(self, run_id: str) -> str:
        return f"{self.address}/#/runs/details/{run_id}"

    def experiment_id(self, name: str, create: bool = False) -> str:
        """The experiment's id; made when it is absent and `create` is asked for, else empty."""
        found = self._experiment(name)
        if not found and create:
            body = kfp_server_api.V2beta1Experiment(display_name=name, namespace=self.namespace or None)
            try:
                return str(self.experiments.experiment_service_create_experiment(body).experiment_id)
            except Refused:
                found = self._experiment(name)  # another call was quicker
                if not found:
                    raise
        return found

    def _experiment(self, name: str) -> str:
        ask = self.experiments.experiment_service_list_experiments
        return next((str(e.experiment_id) for e in self.every(ask, "experiments", display_name=name)), "")

    def every(self, ask: Callable[..., Any], field: str, **equal: str) -> Iterator[Any]:
        """All that a listing has, page by page; with `equal`, what has these values."""
        options: dict[str, Any] = {"page_size": _PAGE} | self.scope()
        if equal:
            predicates = [{"operation": "EQUALS", "key": k, "string_value": v} for k, v in equal.items()]
            # The API server decodes a filter's % and + twice (KFP 2.17, backend/src/apiserver/server/
            # list_request_util.go, parseAPIFilter): neither may stand in it.
            text = json.dumps({"predicates": predicates})
            options["filter"] = text.replace("%", r"\u0025").replace("+", r"\u002b")
        while True:
            page = ask(**options)
            yield from getattr(page, field) or ()
            if not page.next_page_token:
                return
            options["page_token"] = page.next_page_token

    def find_runs(self, experiment: str, most: int = 1, **equal: str) -> list[Any]:
        """The experiment's newest runs, at most so many."""
        ask = partial(self.runs.run_service_list_runs, experiment_id=experiment, sort_by="created_at desc")
        return list(islice(self.every(ask, "runs", **equal), most))

    def find_schedules(self, experiment: str = "", **equal: str) -> list[Any]:
        """The schedules of the experiment, else of the namespace."""
        ask: Callable[..., Any] = self.schedules.recurring_run_service_list_recurring_runs
        if experiment:
            ask = partial(ask, experiment_id=experiment)
        return list(self.every(ask, "recurring_runs", **equal))

    def scope(self) -> dict[str, str]:
        return {"namespace": self.namespace} if self.namespace else {}


def connect() -> Connection:
    """The connection that the environment describes; asks nobody yet. Raises UserError naming a variable."""
    address = os.environ.get("KFP_ENDPOINT", "").strip().rstrip("/").removesuffix("/#")
    if not address:
        raise SettingError(
            "KFP_ENDPOINT is not set: give the address of Kubeflow Pipelines, "
            "for example https://kubeflow.example/pipeline"
        )
    if not address.startswith(("http://", "https://")):
        raise SettingError(
            f"KFP_ENDPOINT={without_credentials(address)} should begin with https:// or http://"
        )
    if without_credentials(address) != address:
        raise SettingError("KFP_ENDPOINT holds a user or a password: take it out, and set KFP_TOKEN instead")
    client = Client(address, token_source())
    return Connection(
        address,
        os.environ.get("KFP_NAMESPACE", ""),
        client,
        kfp_server_api.RunServiceApi(client),
        kfp_server_api.RecurringRunServiceApi(client),
        kfp_server_api.ExperimentServiceApi(client),
        kfp_server_api.PipelineServiceApi(client),
    )
