"""`python -m retrainer notify`: the exit task of a Kubeflow run, and `make notify-test`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from retrainer.errors import ServiceError
from retrainer.notify.local import Notifier
from retrainer.services import webhook
from retrainer.services.address import WEBHOOK


def send_test(recipe: str) -> int:
    """Sends one message, and says whether it was taken. Raises UserError without a webhook."""
    if webhook.configured() is None:
        raise ServiceError(f"{WEBHOOK} is not set: give the address that your chat's page shows")
    line = Notifier(recipe or "retrainer", Path()).test()
    print(line)
    return 0 if "was delivered" in line else 1


def tell_of_run(arguments: argparse.Namespace) -> int:
    """Returns 0 when nothing is lost: the event was delivered, or waits in MLflow for the next run.

    Raises UserError without a webhook: the secret that the settings name is absent, or lacks it.
    """
    from retrainer.notify.cluster import Run, state_of, tell

    if webhook.configured() is None:
        raise ServiceError(
            f"there is no {WEBHOOK}: the secret that cluster.webhook_secret names does not exist, or"
            " has no key of this name; nobody was told how this run ended"
        )
    steps = tuple(step for step in arguments.steps.split(",") if step)
    run = Run(arguments.recipe, arguments.model, state_of(arguments.status), arguments.began, steps)
    delivery = tell(run)
    print(delivery.line, file=sys.stdout if delivery.complete else sys.stderr, flush=True)
    return 0 if delivery.kept else 1
