"""From numbers to a loss and to predictions: what all regression tasks share. Imports nothing heavy.

A network learns the target in standard deviations from its mean, both of the training rows; the head keeps
them, so that they travel with the weights.

Legend: N rows, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from retrainer.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from torch import Tensor, nn

    from retrainer.settings import Evaluation, Training
    from retrainer.tasks._protocol import Baselines, Judged


class Regression:
    """The truth is the number `target`, and what a model says is `prediction`."""

    target_columns: Mapping[str, str] = {"target": "number"}
    labels: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("mean_absolute_error", "root_mean_squared_error", "r2")
    abilities = frozenset(("features",))

    def __init__(self) -> None:
        self._mean, self._deviation = 0.0, 1.0

    def learn(self, train: pa.Table) -> None:
        """Takes mean and standard deviation, rounded as the head keeps them. Raises UserError where all
        targets are one number.
        """
        import numpy as np

        numbers = train["target"].to_numpy()
        if numbers.min() == numbers.max():
            raise DataError(f"every training row has the target {numbers[0]:g}; there is nothing to learn")
        self._mean, self._deviation = float(np.float32(numbers.mean())), float(np.float32(numbers.std()))

    def head(self, body: Any, training: Training) -> nn.Module:
        from retrainer.tasks._heads import ScaledHead

        return ScaledHead(body.width, training.dropout, self._mean, self._deviation)

    def targets(self, table: pa.Table) -> np.ndarray:
        """float32 [N], in standard deviations from the mean."""
        import numpy as np

        numbers = table["target"].to_numpy()
        return ((numbers - self._mean) / self._deviation).astype(np.float32)

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:  # noqa: ARG002
        """Squared error per row [B]: its mean over the training rows is 1 - R²."""
        return (outputs.float()[:, 0] - targets).square()

    def figures(self, outputs: Tensor, targets: Tensor) -> dict[str, np.ndarray]:
        """`error`: without its sign, in units of the target."""
        errors = (outputs.detach().float()[:, 0] - targets).abs().double()
        return {"error": self._deviation * errors.cpu().numpy()}

    def predict(self, network: Any, batch: dict[str, Tensor], temperature: float) -> pa.Table:  # noqa: ARG002
        """`prediction`, in units of the target; `temperature` moves none."""
        import pyarrow as pa

        head = network.head
        outputs = network(batch).detach()[:, 0].double()
        numbers = outputs * head.deviation.double() + head.mean.double()
        return pa.table({"prediction": pa.array(numbers.cpu().numpy(), pa.float64())})

    def comparable(self, first: pa.Table, second: pa.Table) -> tuple[pa.Table, pa.Table]:
        """As they are: there are no classes."""
        return first, second

    def baselines(self, train: pa.Table, test: pa.Table, evaluation: Evaluation) -> Baselines:
        """The median and the mean of the training rows, and ridge regression on cheap features."""
        from retrainer.tasks._number_baselines import baselines

        return baselines(train, test, evaluation)

    def contrasts(self, predictions: pa.Table) -> np.ndarray:
        """There is one output."""
        import numpy as np

        return np.tile(np.array([0, -1], np.int64), (len(predictions), 1))

    def contrast(
        self,
        network: Any,
        batch: dict[str, Tensor],
        contrasts: Tensor,  # noqa: ARG002 (there is one output)
        temperature: float,  # noqa: ARG002
    ) -> Tensor:
        """The prediction, in units of the target."""
        return network(batch)[:, 0].float() * network.head.deviation + network.head.mean

    def details(self, judged: Judged) -> dict[str, Any]:
        """See `_number_report.py`."""
        from retrainer.tasks._number_report import details

        return details(judged)

    def panels(self, judged: Judged, report: dict[str, Any]) -> list[str]:
        from retrainer.tasks._number_report import panels

        return panels(judged, report["details"])
