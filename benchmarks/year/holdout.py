"""How good the champion truly is: on questions that the year never shows to the product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.year.project import Project
from benchmarks.year.rows import Row
from retrainer.services.download import MODEL_INSIDE, registered_files
from retrainer.services.lookup import CHAMPION
from retrainer.services.readers import SqliteReader


@dataclass
class Holdout:
    """The questions, and what has been measured on them: accuracy by the digest of a model."""

    rows: Sequence[Row]
    measured: dict[str, float] = field(default_factory=dict)

    def champion(self, project: Project) -> float | None:
        """The accuracy of the present champion; None where there is none, or there are no rows."""
        reader = SqliteReader(project.folder / "mlflow.db")
        version = reader.by_alias(project.recipe["registry"]["name"], CHAMPION)
        if version is None or not self.rows:
            return None
        if version.model_sha256 not in self.measured:
            import pyarrow as pa

            from retrainer.predict import Predictor

            predictor = Predictor.load(registered_files(version, project.folder) / MODEL_INSIDE)
            answers = predictor.predict(pa.table({"text": [row.text for row in self.rows]}))["label"]
            right = sum(
                answer == row.label for answer, row in zip(answers.to_pylist(), self.rows, strict=True)
            )
            self.measured[version.model_sha256] = right / len(self.rows)
        return self.measured[version.model_sha256]
