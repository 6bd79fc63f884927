"""Answers of a model directory: the same code evaluates, re-scores the champion and serves.

Legend: N rows, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from retrainer import extend
from retrainer.errors import UserError
from retrainer.formats.model import load_network
from retrainer.formats.model_files import DESCRIPTION, read_model
from retrainer.settings import Task

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from retrainer.models._network import Batch, Network
    from retrainer.tasks._protocol import ClassificationTask, Encoded

_BATCH = 64
# Images of one batch: few, so that a processor's caches hold what lies between layers; many for a GPU.
_BATCH_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}
# Rows are encoded (decoded, tokenised) in parts: a test set's images need not fit into memory at once.
_ROWS_AT_ONCE = 2048


class Predictor:
    """A loaded model. Computes in float32: the figures of a report are those of what is served."""

    def __init__(
        self,
        network: Network,
        task: ClassificationTask,
        device: str,
        model_sha256: str,
        temperature: float = 1.0,
    ) -> None:
        import torch

        self.device = torch.device(device)
        self.network = network.to(device=self.device, memory_format=_layout(network))
        self.task = task
        self.model_sha256 = model_sha256
        self.temperature = temperature

    @classmethod
    def load(cls, model: Path, device: str = "cpu") -> Self:
        """Loads a model directory after checking its hashes. Raises UserError when it is not whole."""
        description = read_model(model)
        section = Task.parse(description.get("task", {}), f"{model / DESCRIPTION}: task")
        labels = tuple(description["labels"])
        task = extend.load("tasks", section.kind, "task.kind").make(section, labels)
        digest, temperature = description["model_sha256"], float(description["temperature"])
        return cls(load_network(model), task, device, digest, temperature)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.task.labels

    def probabilities(self, table: pa.Table) -> np.ndarray:
        """Columns of the task (`text`, `text_pair`, `image`) → float32 [N, K], in the table's order.

        A row's answer does not depend on the rows beside it, but for rounding. Raises UserError when the
        first of the task's columns is missing, or a row cannot be read.
        """
        return self._each(table, self._likely, len(self.labels))

    def features(self, table: pa.Table) -> np.ndarray:
        """As `probabilities`, but float32 [N, D]: what the network's body makes of each row."""
        return self._each(table, self._body, self.network.description.width)

    def _likely(self, batch: Batch) -> np.ndarray:
        return self.task.probabilities(self.network(batch) / self.temperature)

    def _body(self, batch: Batch) -> np.ndarray:
        return self.network.features(batch).float().cpu().numpy()

    def _each(self, table: pa.Table, ask: Callable[[Batch], np.ndarray], width: int) -> np.ndarray:
        """float32 [N, width]: what `ask` makes of the rows, encoded part by part."""
        import numpy as np
        import pyarrow as pa

        needed = self.task.columns[0]
        if needed not in table.column_names:
            found = ", ".join(table.column_names) or "none"
            raise UserError(
                f"the input has no column '{needed}', which this model reads; its columns: {found}"
            )
        if "origin" not in table.column_names:
            # So that an error names the row's place in the whole table.
            table = table.append_column(
                "origin", pa.array([f"row {n}" for n in range(len(table))], pa.string())
            )
        answers: np.ndarray = np.zeros((len(table), width), np.float32)
        for start in range(0, len(table), _ROWS_AT_ONCE):
            part = table.slice(start, _ROWS_AT_ONCE)
            self._answer(part, ask, answers[start : start + len(part)])
        return answers

    def _answer(self, table: pa.Table, ask: Callable[[Batch], np.ndarray], answers: np.ndarray) -> None:
        """Fills `answers`, float32 [rows of the part, width]."""
        import torch

        from retrainer.models._network import exact

        body = self.network.description
        rows = self.task.encode(table, body.preprocessing, body.assets).to(self.device)
        with torch.inference_mode(), exact(self.device):
            for numbers in self._batches(rows):
                batch = self.task.batch(rows, numbers, None)
                answers[numbers] = ask({name: tensor.to(self.device) for name, tensor in batch.items()})

    def _batches(self, rows: Encoded) -> Iterator[np.ndarray]:
        """Row numbers, batch by batch; rows of similar length share one, so that little is padded."""
        import numpy as np

        lengths = self.task.lengths(rows)
        order = np.arange(len(rows)) if lengths is None else np.argsort(-lengths, kind="stable")
        size = _BATCH
        if self.network.description.preprocessing.get("kind") == "pixels":
            budget = _BATCH_BYTES.get(self.device.type, _BATCH_BYTES["cuda"])
            size = int(np.clip(budget // _image_bytes(self.network.description.preprocessing), 8, 512))
        for start in range(0, len(order), size):
            yield order[start : start + size]


def _image_bytes(preprocessing: dict[str, Any]) -> int:
    """Of one image as float32 [C, H, W]."""
    height, width = preprocessing["size"]
    return int(4 * preprocessing["channels"] * height * width)


def _layout(network: Network) -> torch.memory_format:
    """Convolutions run fastest with the channels innermost."""
    import torch

    has_convolution = any(isinstance(part, torch.nn.Conv2d) for part in network.modules())
    return torch.channels_last if has_convolution else torch.contiguous_format
