"""`make check-step`: is this a model directory, or what a trainer has to write for the step to make one?"""

from __future__ import annotations

from pathlib import Path

from retrainer.errors import ModelError
from retrainer.formats.files import MANIFEST
from retrainer.formats.model import check_model
from retrainer.formats.model_files import CARD, SETTINGS
from retrainer.resolve import settle


def check_step(recipe: str | None, directory: Path | None, root: Path = Path()) -> list[str]:
    """What to say of it, line by line; `directory` is the recipe's model by default.

    A directory that the step train has not sealed is checked as it checks what the command of
    `training.command` has written: against the recipe's task, and its dataset where that has been made.
    Raises UserError that names the key, the tensor or the file which is wrong, and the cure.
    """
    if directory is not None and _was_sealed(directory):
        return _sealed(directory)
    name, sections = settle(recipe, [], root)
    directory = directory or root / "runs" / name / "model"
    if _was_sealed(directory):
        return _sealed(directory)
    if not directory.is_dir():
        raise ModelError(
            f"{directory} is not there: name what your trainer has written as DIR=, or run make pipeline"
            f" RECIPE={name}"
        )
    return _unsealed(directory, sections["task"].plain(), root / "runs" / name / "dataset", name)


def _was_sealed(directory: Path) -> bool:
    """Also what has lost its manifest: its settings and card are there, which the sealing writes."""
    return (directory / MANIFEST).is_file() or all((directory / name).is_file() for name in (SETTINGS, CARD))


def _sealed(directory: Path) -> list[str]:
    manifest = check_model(directory)
    return [f"{directory} is a valid model directory (model_sha256 {manifest['model_sha256']})"]


def _unsealed(directory: Path, task: dict[str, object], dataset: Path, recipe: str) -> list[str]:
    from retrainer.formats.dataset import Dataset
    from retrainer.training._own_model import require_usable

    data = Dataset(dataset) if (dataset / MANIFEST).is_file() else None
    require_usable(directory, task, data)
    lines = [f"{directory} is what a trainer has to write for RECIPE={recipe}; the step train seals it"]
    if data is None:
        return [*lines, f"its labels and answers were not checked: {dataset} is not there; run make pipeline"]
    return [*lines, f"its labels are those of {dataset}, and it answers a row of it"]
