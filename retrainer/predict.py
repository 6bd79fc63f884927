"""Predictions of a model directory: the same code evaluates, re-scores the champion and serves.

Legend: N rows, D feature width, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from retrainer.errors import SettingError, UserError
from retrainer.formats.model_files import read_model
from retrainer.formats.network import load_network, task_of
from retrainer.refused import despite_refusal

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from retrainer.models._network import Batch, Network
    from retrainer.tasks._protocol import Encoded, Task

Answer = TypeVar("Answer")
_BATCH = 64
# Images of one batch: few, so that a processor's caches hold what lies between layers; many for a GPU.
_BATCH_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}
# Rows are encoded (decoded, tokenised) in parts: a test set's images need not fit into memory at once.
_ROWS_AT_ONCE = 2048


class Predictor:
    """A loaded model. Computes in float32: the figures of a report are those of what is served.

    `description`: the content of model.json, for a model that was loaded from a directory.
    """

    def __init__(
        self,
        network: Network,
        task: Task,
        device: str,
        model_sha256: str,
        temperature: float = 1.0,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        import torch

        self.device = torch.device(device)
        self.network = network.to(device=self.device, memory_format=_layout(network))
        self.task = task
        self.model_sha256 = model_sha256
        self.temperature = temperature
        self.description = description

    @classmethod
    def load(cls, model: Path, device: str = "cpu") -> Self:
        """Loads a model directory after checking its hashes. Raises UserError when it is not whole."""
        description = read_model(model)
        digest, temperature = description["model_sha256"], float(description["temperature"])
        task = task_of(model, description)
        return cls(load_network(model), task, device, digest, temperature, description)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.task.labels

    def enrol(self, gallery: Path) -> None:
        """Who is recognised from now on: each folder of `gallery` is one identity, each file in it a row.

        Raises UserError for a task that recognises nobody, and a folder or file that cannot be used.
        """
        if not hasattr(self.task, "enrol"):
            raise SettingError(f"GALLERY={gallery}: this model's task recognises nobody; leave GALLERY out")
        self.task.enrol(gallery, self.predict)

    def predict(self, table: pa.Table, features: np.ndarray | None = None) -> pa.Table:
        """What the task predicts of each row, in the table's order.

        The table has the task's input columns (`text`, `text_pair`, `image`, …). A row's prediction does not
        depend on the rows beside it, but for rounding. Raises UserError when the first of the task's input
        columns is missing, or a row cannot be read.

        `features`: float32 [N, D] of these very rows, by a model that `retrainer.same_body` says to have this
        one's body. Then the head alone runs, and the predictions are the same to the bit.
        """

        def ask(batch: Batch, rows: np.ndarray) -> pa.Table:
            network = self.network if features is None else self._above(features[rows])
            return self.task.predict(network, batch, self.temperature)

        rows, parts = zip(*self._each(table, ask), strict=True)
        return _in_order(rows, parts)

    def judge(self, table: pa.Table, features: np.ndarray | None = None) -> pa.Table:
        """What `predict` gives, and of a task with `score` what that says of rows with their targets."""
        predictions = self.predict(table, features)
        if not hasattr(self.task, "score"):
            return predictions
        found = self.scored(table)
        for name in found.column_names:
            predictions = predictions.append_column(name, found[name])
        return predictions

    def scored(self, table: pa.Table) -> pa.Table:
        """What the task's `score` says of each row, whose targets the table has."""
        score: Any = self.task.score  # type: ignore[attr-defined]

        def ask(batch: Batch, _: np.ndarray) -> pa.Table:
            found: pa.Table = score(self.network, batch)
            return found

        rows, parts = zip(*self._each(table, ask, (*self.task.target_columns,)), strict=True)
        return _in_order(rows, parts)

    def probabilities(self, table: pa.Table) -> np.ndarray:
        """Of a classifier: float32 [N, K], in the order of `labels`."""
        from retrainer.formats.columns import probability_matrix

        return probability_matrix(self.predict(table))

    def features(self, table: pa.Table) -> np.ndarray:
        """float32 [N, D]: what the network's body makes of each row, where it makes one vector of it."""
        import numpy as np

        def ask(batch: Batch, _: np.ndarray) -> np.ndarray:
            return self.network.features(batch).float().cpu().numpy()

        made: np.ndarray = np.zeros((len(table), self.network.description.width), np.float32)
        for rows, features in self._each(table, ask):
            made[rows] = features
        return made

    def predict_and_features(self, table: pa.Table) -> tuple[pa.Table, np.ndarray]:
        """What `predict` and `features` give, by one pass of the network instead of two."""
        import numpy as np

        heads_input: list[torch.Tensor] = []
        hook = self.network.head.register_forward_pre_hook(lambda _, given: heads_input.append(given[0]))

        def ask(batch: Batch, _: np.ndarray) -> tuple[pa.Table, np.ndarray]:
            heads_input.clear()
            predictions = self.task.predict(self.network, batch, self.temperature)
            return predictions, heads_input[-1].float().cpu().numpy()

        try:
            rows, answers = zip(*self._each(table, ask), strict=True)
        finally:
            hook.remove()
        made: np.ndarray = np.zeros((len(table), self.network.description.width), np.float32)
        for some, (_, features) in zip(rows, answers, strict=True):
            made[some] = features
        return _in_order(rows, [predictions for predictions, _ in answers]), made

    def explain(self, table: pa.Table, contrasts: np.ndarray | None = None) -> pa.Table:
        """What each row's answer rests on, by Captum: see `retrainer.attribution.explain.Explainer.explain`.

        `contrasts`: int64 [N, 2], the two outputs of which each row's difference is explained; by default the
        answer and what comes next. Raises UserError where the task or the network has no attributions, or
        Captum is not installed.
        """
        from retrainer.attribution.explain import Explainer

        explainer = Explainer.of(self)
        if contrasts is None:
            contrasts = self.task.contrasts(self.predict(table))
        return explainer.explain(table, contrasts)

    def _above(self, features: np.ndarray) -> Network:
        """The network, whose body has made these features [B, D] of a batch already."""
        import torch

        from retrainer.models._network import Network

        made = torch.from_numpy(features).to(self.device)
        return Network(replace(self.network.description, features=lambda *_: made), self.network.head)

    def _each(
        self, table: pa.Table, ask: Callable[[Batch, np.ndarray], Answer], also: Sequence[str] = ()
    ) -> Iterator[tuple[np.ndarray, Answer]]:
        """(row numbers, what `ask` makes of them) of each batch; one of no rows where the table has none.

        `also`: columns that batches are made of beside the inputs.
        """
        import pyarrow as pa

        needed = next(iter(self.task.input_columns))
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
        # A task that finds targets would encode them, as it does to train.
        read = {*self.task.input_columns, *also, "origin"}
        table = table.select([name for name in table.column_names if name in read])
        for start in range(0, max(1, len(table)), _ROWS_AT_ONCE):
            yield from self._part(table.slice(start, _ROWS_AT_ONCE), start, ask)

    def _part(
        self, table: pa.Table, start: int, ask: Callable[[Batch, np.ndarray], Answer]
    ) -> Iterator[tuple[np.ndarray, Answer]]:
        """Of some rows of a table, the first of which has the number `start`."""
        import torch

        from retrainer.models._network import exact

        body = self.network.description
        encoded = self.task.encode(table, body.preprocessing, body.assets).to(self.device)
        for rows in self._batches(encoded):
            # Left before each yield: what the caller computes between two batches is its own.
            with torch.inference_mode(), exact(self.device):
                batch = self.task.batch(encoded, rows, None)
                placed = {name: tensor.to(self.device) for name, tensor in batch.items()}
                answer = despite_refusal(partial(ask, placed, start + rows))
            yield start + rows, answer

    def _batches(self, encoded: Encoded) -> Iterator[np.ndarray]:
        """Row numbers, batch by batch; rows of similar length share one, so that little is padded."""
        import numpy as np

        lengths = self.task.lengths(encoded)
        order = np.arange(len(encoded)) if lengths is None else np.argsort(-lengths, kind="stable")
        size = _BATCH
        if self.network.description.preprocessing.get("kind") == "pixels":
            budget = _BATCH_BYTES.get(self.device.type, _BATCH_BYTES["cuda"])
            size = int(np.clip(budget // _image_bytes(self.network.description.preprocessing), 8, 512))
        for start in range(0, max(1, len(order)), size):
            yield order[start : start + size]


def _in_order(rows: Sequence[np.ndarray], parts: Sequence[pa.Table]) -> pa.Table:
    """One table of the batches' predictions, in the order of their row numbers."""
    import numpy as np
    import pyarrow as pa

    order = np.argsort(np.concatenate(rows), kind="stable")
    return pa.concat_tables(parts).combine_chunks().take(pa.array(order))


def _image_bytes(preprocessing: dict[str, Any]) -> int:
    """Of one image as float32 [C, H, W]."""
    height, width = preprocessing["size"]
    return int(4 * preprocessing["channels"] * height * width)


def _layout(network: Network) -> torch.memory_format:
    """Convolutions run fastest with the channels innermost."""
    import torch

    has_convolution = any(isinstance(part, torch.nn.Conv2d) for part in network.modules())
    return torch.channels_last if has_convolution else torch.contiguous_format
