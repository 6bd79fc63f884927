"""What a task takes from the validation rows when the weights are final: a threshold, for instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from retrainer.training.learner import Data, Learner


def settle(learner: Learner, validation: Data | None) -> None:
    """Calls the task's `settle`, if it has one, with the network's predictions of the validation rows.

    The network is on the CPU in eval mode, and so it is left.
    """
    if not hasattr(learner.task, "settle"):
        return
    predictions = None if validation is None else _predictions(learner, validation)
    truth = np.zeros(0, np.int64) if validation is None else validation[1]
    learner.task.settle(learner.network, predictions, truth)


def _predictions(learner: Learner, rows: Data) -> pa.Table:
    """In the rows' order, computed in float32, as the model will be asked."""
    import pyarrow as pa
    import torch

    from retrainer.models._network import exact
    from retrainer.training.loader import evaluation_batch_size, load_batches, sorted_batches
    from retrainer.training.strategies import memory_format, placed_rows

    network, device = learner.network, torch.device(learner.compute.device)
    network.to(device=device, memory_format=memory_format(network))
    loaded = placed_rows(learner.task, rows, network, device)
    batches = sorted_batches(len(loaded), evaluation_batch_size(loaded), loaded.lengths)
    with torch.inference_mode(), exact(device):
        made = [learner.task.predict(network, one, 1.0) for one, _, _ in load_batches(loaded, batches, None)]
    network.to(device="cpu", memory_format=torch.contiguous_format)
    order = np.argsort(np.concatenate(batches), kind="stable")
    return pa.concat_tables(made).take(pa.array(order))
