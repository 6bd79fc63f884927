"""How good the champion truly is: on questions that the year never shows to the product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.year.project import Project
from benchmarks.year.rows import Row
from retrainer.same_body import same_body
from retrainer.services.download import MODEL_INSIDE, registered_files
from retrainer.services.lookup import CHAMPION
from retrainer.services.readers import SqliteReader

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from retrainer.predict import Predictor


@dataclass
class Holdout:
    """The questions, and what has been measured on them: accuracy by the digest of a model.

    `last`: the model that was measured last, and its features of the questions. The next champion mostly has
    another head on the same body.
    """

    rows: Sequence[Row]
    measured: dict[str, float] = field(default_factory=dict)
    last: tuple[Predictor, np.ndarray] | None = None

    def champion(self, project: Project) -> float | None:
        """The accuracy of the present champion; None where there is none, or there are no rows."""
        reader = SqliteReader(project.folder / "mlflow.db")
        version = reader.by_alias(project.recipe["registry"]["name"], CHAMPION)
        if version is None or not self.rows:
            return None
        if version.model_sha256 not in self.measured:
            from retrainer.predict import Predictor

            predictor = Predictor.load(registered_files(version, project.folder) / MODEL_INSIDE)
            answers = self._predicted(predictor)["label"].to_pylist()
            right = sum(answer == row.label for answer, row in zip(answers, self.rows, strict=True))
            self.measured[version.model_sha256] = right / len(self.rows)
        return self.measured[version.model_sha256]

    def _predicted(self, predictor: Predictor) -> pa.Table:
        import pyarrow as pa

        questions = pa.table({"text": [row.text for row in self.rows]})
        if self.last is not None and same_body(predictor, self.last[0]):
            return predictor.predict(questions, self.last[1])
        predictions, features = predictor.predict_and_features(questions)
        self.last = (predictor, features)
        return predictions
