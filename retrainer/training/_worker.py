"""A further process of a training: it computes its share of every batch, and writes nothing."""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from retrainer.errors import UserError
from retrainer.messages import printed_messages
from retrainer.training.inputs import Inputs
from retrainer.training.train import encode_splits, prepare

if TYPE_CHECKING:
    from retrainer.training._distributed import Group


def main() -> None:
    """Takes the job from a line of standard input, open for as long as the first process lives.

    The last line on standard output says why it failed, and the first process passes it on.
    """
    from retrainer.training._distributed import LEFT_ALONE, connection_lost

    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_first, daemon=True, name="first-watch").start()
    try:
        with printed_messages():
            _work(job)
    except Exception as error:
        if connection_lost(error):
            os._exit(LEFT_ALONE)
        print(brief(error), flush=True)
        os._exit(1)


def _end_with_first() -> None:
    sys.stdin.read()
    os._exit(143)


def brief(error: Exception) -> str:
    """What went wrong, in one line."""
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())


def _work(job: dict[str, Any]) -> None:
    import torch.distributed as dist

    from retrainer.training._distributed import HOST, Group, joined

    inputs, group = Inputs.parse(job), Group(job["rank"], job["size"])
    store = dist.TCPStore(HOST, job["port"], group.size, is_master=False)
    with joined(store, group, inputs.settings.compute):
        take_part(inputs, group)


def take_part(inputs: Inputs, group: Group) -> None:
    """This process's share of the training, inside of `group`. The first process tells of it."""
    from retrainer.training.loop import fit

    learner, table = prepare(inputs)
    fit(replace(learner, group=group), encode_splits(inputs, learner, table))
