"""Who is it, and are these two the same: what all verification tasks share. Imports nothing heavy.

A network makes an embedding of a row, and the cosine of two says how alike they are. It learns the identities
of the training rows as classes, by a loss with a margin; what those were is then forgotten, and no identity
that it is tested on is one of them. The identity of a row is its `group`, which is what keeps the splits
apart.

Legend: N rows, B rows of a batch, D numbers of an embedding, K identities of the training rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from retrainer.errors import DataError
from retrainer.settings import Section

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pyarrow as pa
    from torch import Tensor, nn

    from retrainer.settings import Evaluation, Training
    from retrainer.tasks._gallery import Gallery
    from retrainer.tasks._protocol import Baselines, Judged
    from retrainer.tasks._verification_head import Outputs

IDENTITY = "group"


class VerificationOptions(Section):
    """Keys of `task:` that all verification tasks have."""

    margin_kind: Literal["arcface", "cosface"] = Field(
        "arcface", description="what the margin is added to: the angle (ArcFace), or its cosine (CosFace)"
    )
    margin: float = Field(
        0.2,
        ge=0,
        lt=1.5,
        description="by how much a row must be nearer to its own identity; 0: plain softmax",
    )
    margin_scale: float = Field(30.0, gt=0, le=200, description="what cosines are multiplied by in the loss")
    embedding: int = Field(0, ge=0, description="numbers of an embedding; 0: as many as the body's features")
    false_accept_rate: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="share of the validation's impostor pairs that the stored threshold accepts at most",
    )


class Verification:
    """The truth is `group`. Predictions have `identity`, `score`, `threshold` and `embedding`.

    `identity` is the name in the gallery with the highest `score`, or "unknown" where that is below the
    threshold; both are null where nobody is enrolled.
    """

    options: Any
    input_columns: Mapping[str, str]
    target_columns: Mapping[str, str] = {IDENTITY: "string"}
    labels: tuple[str, ...] = ()
    metrics: tuple[str, ...] = (
        "equal_error_rate",
        "true_accept_rate_01",
        "pair_roc_auc",
        "false_accept_rate",
        "false_reject_rate",
    )
    abilities = frozenset(("features", "untrained"))

    def __init__(self) -> None:
        self._identities: tuple[str, ...] = ()
        self._gallery: Gallery | None = None

    # --- training ---

    def learn(self, train: pa.Table) -> None:
        """Keeps the identities, for the loss alone. Raises UserError where there are not two."""
        self._identities = tuple(sorted(set(train[IDENTITY].to_pylist())))
        if len(self._identities) < 2:
            raise DataError(
                "verification learns to tell identities apart, and the training rows have"
                f" {len(self._identities)}; give rows of more (source.group), or lower split.test"
            )

    def head(self, body: Any, training: Training) -> nn.Module:
        """Without what the loss needs of each identity, where no rows were learned from."""
        from retrainer.tasks._verification_head import EmbeddingHead

        size = self.options.embedding or body.width
        return EmbeddingHead(body.width, size, len(self._identities), training.dropout)

    def targets(self, table: pa.Table) -> np.ndarray:
        """int64 [N]: the place of a training identity, and a number behind these for any other one."""
        import numpy as np

        names = table[IDENTITY].to_pylist()
        places = {name: place for place, name in enumerate(self._identities)}
        for name in sorted(set(names) - places.keys()):
            places[name] = len(places)
        return np.array([places[name] for name in names], np.int64)

    def loss(self, outputs: Outputs, targets: Tensor, label_smoothing: float) -> Tensor:  # noqa: ARG002
        """[B]: by the margin, of rows of a training identity; of others, as in validation, by the other rows
        of the batch."""
        from retrainer.tasks._verification_head import verification_loss

        return verification_loss(outputs, targets, self.options)

    def figures(self, outputs: Outputs, targets: Tensor) -> dict[str, np.ndarray]:  # noqa: ARG002
        """None: error rates are those of all pairs, and not of a batch."""
        return {}

    def settle(self, network: Any, predictions: pa.Table | None, truth: np.ndarray) -> None:
        """Stores the threshold in the head, and takes out what was learned of each training identity.

        `predictions` of the validation rows, None where there are none, and their `targets`.
        """
        from retrainer.tasks._verification_head import settle

        settle(network.head, predictions, truth, self.options.false_accept_rate)

    # --- answers ---

    def enrol(self, gallery: Path, predict: Callable[[pa.Table], pa.Table]) -> None:
        """Who is recognised from now on: each folder of `gallery` is one identity, each file in it a row.

        Raises UserError for a folder without files that can be used.
        """
        from retrainer.tasks._gallery import enrolled

        self._gallery = None
        self._gallery = enrolled(gallery, next(iter(self.input_columns)), predict)

    def predict(self, network: Any, batch: dict[str, Tensor], temperature: float) -> pa.Table:  # noqa: ARG002
        from retrainer.tasks._gallery import answers

        made = network(batch).embeddings.detach().float().cpu().numpy()
        return answers(made, self._gallery, float(network.head.threshold))

    def comparable(self, first: pa.Table, second: pa.Table) -> tuple[pa.Table, pa.Table]:
        """As they are: each model's embeddings are compared with its own alone."""
        return first, second

    # --- judgement ---

    def baselines(self, train: pa.Table, test: pa.Table, evaluation: Evaluation) -> Baselines:
        """All rows alike, and what the mean spectrum or the pixels alone tell."""
        from retrainer.tasks._verification_baselines import baselines

        return baselines(train, test, evaluation, self.options.false_accept_rate)

    def details(self, judged: Judged) -> dict[str, Any]:
        """Histograms of the scores, the error rates at the stored threshold, the curve, the worst pairs."""
        from retrainer.tasks._verification_report import details

        return details(judged)

    def panels(self, judged: Judged, report: dict[str, Any]) -> list[str]:
        from retrainer.tasks._verification_panels import panels

        return panels(judged, report["details"])
