"""A task of one file, as a user would write it: how many stars a picture deserves, from 1 to 5.

Ordinal regression: a row has one number, and an error of two stars is worse than one of one. The network says
for each of the four borders how likely the stars are beyond it; their sum is the prediction. The file is also
its own metric. `tests/test_fourth_task.py` takes it through every step.

Legend: N rows, B rows of a batch, D feature width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from retrainer.settings import Section, Task
from retrainer.tasks._protocol import Baseline, Baselines, Judged

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from torch import Tensor, nn

    from retrainer.settings import Evaluation, Training
    from retrainer.tasks._pixels import Pixels

MOST = 5


class Options(Section):
    size: int = Field(0, ge=0, description="height and width in pixels; 0: the model family's own")


def make(task: Task, labels: tuple[str, ...]) -> Rating:  # noqa: ARG001 (it has no classes)
    return Rating(Options.parse(task.options, "task"))


class Rating:
    """`image` → `stars`."""

    input_columns: ClassVar[Mapping[str, str]] = {"image": "image"}
    target_columns: ClassVar[Mapping[str, str]] = {"stars": "number"}
    labels: ClassVar[tuple[str, ...]] = ()
    metrics: ClassVar[tuple[str, ...]] = (__name__,)
    abilities: ClassVar[frozenset[str]] = frozenset(("features",))

    def __init__(self, options: Options) -> None:
        self.options = options

    def learn(self, train: pa.Table) -> None:
        """Nothing: the number of stars is known."""

    def input_spec(self) -> dict[str, Any]:
        size = [self.options.size] * 2 if self.options.size else None
        return {"kind": "pixels", "size": size, "channels": None}

    def head(self, body: Any, training: Training) -> nn.Module:
        """Features [B, D] → logits [B, 4]: whether there are more than 1, 2, 3 and 4 stars."""
        from retrainer.tasks._heads import LinearHead

        return LinearHead(body.width, MOST - 1, training.dropout)

    def encode(self, table: pa.Table, preprocessing: dict[str, Any], assets: dict[str, bytes]) -> Pixels:  # noqa: ARG002
        from retrainer.tasks._pixels import encode_images

        return encode_images(table, preprocessing)

    def targets(self, table: pa.Table) -> np.ndarray:
        import numpy as np

        return table["stars"].to_numpy().astype(np.float32)

    def batch(
        self, encoded: Pixels, rows: np.ndarray, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        from retrainer.tasks._pixels import Augmentation

        return encoded.batch(rows, Augmentation(0, 0.0, 0.0, False, 0.0), generator)

    def lengths(self, encoded: Pixels) -> np.ndarray | None:  # noqa: ARG002
        return None

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:  # noqa: ARG002
        """Binary cross entropy of each border, [B] (Frank and Hall 2001, "A simple approach")."""
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        borders = torch.arange(1, MOST, device=targets.device)
        beyond = (targets[:, None] > borders).float()
        return binary_cross_entropy_with_logits(outputs.float(), beyond, reduction="none").mean(dim=1)

    def figures(self, outputs: Tensor, targets: Tensor) -> dict[str, np.ndarray]:
        error = (_stars(outputs) - targets).abs()
        return {"error": error.double().cpu().numpy()}

    def predict(self, network: nn.Module, batch: dict[str, Tensor], temperature: float) -> pa.Table:  # noqa: ARG002
        import pyarrow as pa

        return pa.table({"prediction": pa.array(_stars(network(batch)).double().cpu().numpy())})

    def comparable(self, first: pa.Table, second: pa.Table) -> tuple[pa.Table, pa.Table]:
        return first, second

    def baselines(self, train: pa.Table, test: pa.Table, evaluation: Evaluation) -> Baselines:  # noqa: ARG002
        import numpy as np
        import pyarrow as pa

        middle = float(np.median(train["stars"].to_numpy()))
        always = pa.table({"prediction": pa.array([middle] * len(test), pa.float64())})
        return Baselines((Baseline("median", f"always {middle:g} stars", always, len(train)),))

    def details(self, judged: Judged) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def panels(self, judged: Judged, report: dict[str, Any]) -> list[str]:  # noqa: ARG002
        return []


def _stars(outputs: Tensor) -> Tensor:
    return 1 + outputs.detach().float().sigmoid().sum(dim=1)


# --- the metric: the mean absolute error ------------------------------------------------------------------

TITLE = "mean error"
UNIT = "stars"
HIGHER_IS_BETTER = False
LOWEST, HIGHEST = 0.0, MOST - 1.0


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, 2]: the row's error, and 1."""
    import numpy as np

    errors = np.abs(predictions["prediction"].to_numpy() - truth["stars"].to_numpy())
    return np.stack([errors, np.ones(len(errors))], axis=1)


def value(sums: np.ndarray) -> np.ndarray:
    import numpy as np

    total, rows = sums[..., 0], sums[..., 1]
    return np.divide(total, rows, out=np.zeros_like(total), where=rows > 0)
