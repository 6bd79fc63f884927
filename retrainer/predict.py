"""Answers of a model directory: the same code evaluates, re-scores the champion and serves.

Legend: N rows, K classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from retrainer import extend
from retrainer.formats.model import load_network, read_model
from retrainer.settings import Task

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from retrainer.models._network import Network
    from retrainer.tasks._protocol import ClassificationTask

_ROWS_AT_ONCE = 64


class Predictor:
    """A loaded model. Computes in float32: the figures of a report are those of what is served."""

    def __init__(self, network: Network, task: ClassificationTask, device: str, model_sha256: str) -> None:
        self.network = network.to(device)
        self.task = task
        self.device = device
        self.model_sha256 = model_sha256

    @classmethod
    def load(cls, model: Path, device: str = "cpu") -> Self:
        """Loads a model directory after checking its hashes. Raises UserError when it is not whole."""
        description = read_model(model)
        section = Task.parse(description["task"], "task")
        labels = tuple(description["labels"])
        task = extend.load("tasks", section.kind, "task.kind").make(section, labels)
        return cls(load_network(model), task, device, description["model_sha256"])

    @property
    def labels(self) -> tuple[str, ...]:
        return self.task.labels

    def probabilities(self, table: pa.Table) -> np.ndarray:
        """Columns of the task (`text`, `text_pair`, `image`) → float32 [N, K], in the table's order."""
        import numpy as np
        import torch

        body = self.network.description
        rows = self.task.encode(table, body.preprocessing, body.assets).to(torch.device(self.device))
        lengths = self.task.lengths(rows)
        # Rows of similar length share a batch: little is padded.
        order = np.arange(len(rows)) if lengths is None else np.argsort(-lengths, kind="stable")
        answers = np.zeros((len(rows), len(self.labels)), np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), _ROWS_AT_ONCE):
                part = order[start : start + _ROWS_AT_ONCE]
                batch = {k: v.to(self.device) for k, v in self.task.batch(rows, part, None).items()}
                answers[part] = self.task.probabilities(self.network(batch))
        return answers
