"""What a user's own trainer has written, before it is sealed: does it fit the recipe and the dataset?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.errors import ModelError, UserError, nearest
from retrainer.formats._description import DESCRIPTION, TEMPERATURE, read_description
from retrainer.formats.dataset import Dataset
from retrainer.formats.model import unsealed_network
from retrainer.formats.network import task_of

if TYPE_CHECKING:
    import pyarrow as pa

    from retrainer.models._network import Network
    from retrainer.tasks._protocol import Task

# Two: a batch of one hides what mixes rows up.
_ROWS = 2


def require_usable(directory: Path, task: dict[str, Any], dataset: Dataset | None) -> Network:
    """The network. Raises UserError that names what is wrong, and the cure.

    `task` is the section of the settings. Without a dataset neither the labels are compared nor a row is
    predicted.
    """
    network = unsealed_network(directory, task)
    if dataset is None:
        return network
    description = read_description(directory) | {"task": task}
    made = task_of(directory, description)
    _require_labels(directory / DESCRIPTION, description, dataset)
    _require_answers(directory, network, made, dataset, float(description[TEMPERATURE]))
    return network


def _require_labels(file: Path, description: dict[str, Any], dataset: Dataset) -> None:
    labels: list[str] = description["labels"]
    known = task_of(file.parent, description | {"labels": list(dataset.labels)}).labels
    if labels and not known:
        raise ModelError(f"{file}: 'labels' names classes, and this task has none; write \"labels\": []")
    for name in labels:
        if name not in known:
            raise ModelError(
                f"{file}: 'labels' has {name!r}, which is no class of the dataset; take it out, or spell it"
                f" as the dataset does{nearest(name, known)}"
            )
    rows = dataset.manifest["classes"].get("train", {}) if known else {}
    for name, count in rows.items():
        if name not in labels:
            raise ModelError(
                f"{file}: 'labels' lacks {name!r}, the class of {count:,} training rows; add it there, and"
                " its output to the head"
            )


def _require_answers(
    directory: Path, network: Network, task: Task, dataset: Dataset, temperature: float
) -> None:
    """A model that is built as described may still be fed what it cannot take: it answers some rows here."""
    columns = [*task.input_columns, "origin"]
    rows = dataset.first("train", _ROWS, columns)
    try:
        predictions = _predictions(network, task, rows, temperature)
    except UserError:
        raise
    except Exception as error:  # whatever the user's network meets in an input that is not its own
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(
            f"{directory}: the network cannot take a row of the dataset ({reason}); make 'config' and"
            f" 'preprocessing' of {DESCRIPTION} those that it was trained with"
        ) from None
    if len(predictions) != len(rows):
        raise ModelError(
            f"{directory}: of {len(rows)} rows the network makes {len(predictions)} answers; its features"
            " must be one vector a row, [rows, width]"
        )
    if not _finite(predictions):
        raise ModelError(
            f"{directory}: the network answers a row of the dataset with values that are no numbers; train"
            " with a lower learning rate"
        )


def _predictions(network: Network, task: Task, rows: pa.Table, temperature: float) -> pa.Table:
    import torch

    body = network.description
    encoded = task.encode(rows, body.preprocessing, body.assets)
    with torch.inference_mode():
        return task.predict(network, task.batch(encoded, np.arange(len(rows)), None), temperature)


def _finite(predictions: pa.Table) -> bool:
    import pyarrow as pa

    flat = predictions.flatten()
    numbers = [column for column in flat.columns if pa.types.is_floating(column.type)]
    return all(bool(np.isfinite(column.to_numpy()).all()) for column in numbers)
