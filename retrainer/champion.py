"""The champion in two lines of Python:

    from retrainer.champion import load_champion
    load_champion("sentiment-minilm").predict(["a lovely day", "what a mess"])

`make predict` does the same for whole files and folders, by the same code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.errors import DataError

if TYPE_CHECKING:
    from retrainer.batch_prediction.model import LoadedModel


def load_champion(
    recipe: str = "",
    version: str = "",
    model: Path | str | None = None,
    root: Path | str = "",
    gallery: Path | str = "",
) -> Champion:
    """The recipe's champion, in memory; `version`: another version's number or alias, `model`: a directory.

    `root`: the project's directory, where it is not the present one; by default its own recipe. `gallery`: a
    folder of those whom a model that recognises is to know. Raises UserError where there is no such model,
    or it was altered, and for a gallery that cannot be used.
    """
    from retrainer.batch_prediction.model import load_model
    from retrainer.batch_prediction.sections import read_sections

    sections = read_sections(recipe, Path(root), needs_project=model is None)
    found = load_model(sections, version, Path(model) if model else None)
    if gallery:
        found.predictor.enrol(Path(gallery))
    return Champion(found, str(gallery))


@dataclass(frozen=True)
class Champion:
    """A model that answers; `model.predictor` has the tables, the probabilities and the features.

    `gallery`: the folder of those whom it knows, where there is one."""

    model: LoadedModel
    gallery: str = ""

    @property
    def version(self) -> str:
        return self.model.version

    @property
    def model_sha256(self) -> str:
        return self.model.predictor.model_sha256

    def predict(self, rows: Iterable[Any], top_k: int = 0) -> list[dict[str, Any]]:
        """One answer a row, in their order: see `retrainer.batch_prediction.answers`, without the origin.

        A row is a text, an image's or a sound's encoded bytes or its path, or a mapping with the columns that
        the recipe's data has; `rows` may also be a pandas DataFrame. Raises DataError for the first row that
        the model cannot read.
        """
        from retrainer.batch_prediction.answers import ORIGIN, check_top_k
        from retrainer.batch_prediction.scoring import Scorer
        from retrainer.batch_prediction.windows import windows_of

        check_top_k(top_k, self.model.predictor.labels)
        scorer = Scorer(self.model.predictor, self.model.columns, self.model.version, top_k)
        answers: list[dict[str, Any]] = []
        for window in windows_of(self._rows(rows), self.model.columns.words, Path()):
            scored = scorer.score(window)
            for row, reason in sorted(scored.rejected.items()):
                raise DataError(f"{window.origins[row]}: {reason}")
            assert scored.answers is not None
            answers += scored.answers.drop_columns([ORIGIN]).to_pylist()
        return answers

    def predict_file(self, path: Path | str, output: Path | str = "", top_k: int = 0) -> list[str]:
        """What `make predict INPUT=path OUTPUT=output TOP_K=top_k` does; returns the lines that it prints."""
        from retrainer.batch_prediction.command import Request, predict

        return predict(Request(self.model, str(path), str(output), top_k, self.gallery))

    def _rows(self, rows: Any) -> Iterable[Any]:
        from retrainer.batch_prediction.windows import Row

        if isinstance(rows, str | bytes):
            raise DataError("rows must be a list; put the single one into brackets: [row]")
        if hasattr(rows, "to_dict"):
            rows = rows.to_dict(orient="records")
        columns = self.model.columns
        for number, row in enumerate(rows):
            origin = f"row {number}"
            given = row
            if not isinstance(row, Mapping):
                given = {columns.first: _file_or_value(row, columns.holds_files)}
            try:
                found = columns.find(given)
            except DataError as error:
                yield Row(origin, problem=str(error))
                continue
            yield Row(origin, {ours: given[name] for ours, name in found.items()})


def _file_or_value(row: Any, holds_files: bool) -> Any:
    return Path(row) if holds_files and isinstance(row, str) else row
