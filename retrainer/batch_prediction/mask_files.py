"""Predicted masks as files of their own, beside an output whose rows are lines of text.

    OUTPUT.masks/00000017-NAME.png    the mask of row 17 of the input, in whose origin the file NAME stands

Such a row's `prediction` is the path of its file, from the output's folder, and `prediction_shares` has the
share of the image's pixels that each class has. Until the output is whole they lie in .OUTPUT.masks.part.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from retrainer.batch_prediction.answers import ORIGIN, PREDICTION, SHARES
from retrainer.errors import SettingError

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = ".masks"
_MOST_CHARACTERS = 60
_DIGITS = 6


@dataclass(frozen=True)
class MaskFiles:
    """`folder`: where they go. `ours`: whether an earlier run of this command wrote what is there."""

    folder: Path
    ours: bool

    @property
    def _part(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.part")

    def begin(self) -> None:
        """Removes what a killed run left. Raises SettingError for a folder that is not this command's."""
        if self.folder.exists() and not self.ours:
            raise SettingError(
                f"OUTPUT: {self.folder} is there, and make predict did not write it; name another file, or"
                " remove it"
            )
        shutil.rmtree(self._part, ignore_errors=True)

    def finish(self) -> None:
        """Puts the masks in the place of those of an earlier output, where any were written."""
        if self._part.is_dir():
            shutil.rmtree(self.folder, ignore_errors=True)
            self._part.rename(self.folder)

    def put(self, answers: pa.Table, first: int, rows: Sequence[int]) -> pa.Table:
        """Writes the masks of these rows of a window, whose first row is the input's row `first`, from 1."""
        import pyarrow as pa

        from retrainer.formats.files import write_bytes

        masks = answers[PREDICTION].to_pylist()
        origins = answers[ORIGIN].to_pylist()
        names = [_name(first + row, origin) for row, origin in zip(rows, origins, strict=True)]
        self._part.mkdir(parents=True, exist_ok=True)
        for name, mask in zip(names, masks, strict=True):
            write_bytes(self._part / name, mask["image"]["bytes"])
        paths = [f"{self.folder.name}/{name}" for name in names]
        at = answers.column_names.index(PREDICTION)
        answers = answers.set_column(at, PREDICTION, pa.array(paths, pa.string()))
        return answers.add_column(at + 1, SHARES, pa.array([_shares(mask) for mask in masks]))


def are_masks(answers: pa.Table) -> bool:
    from retrainer.formats.columns import MASK

    return bool(answers.schema.field(PREDICTION).type == MASK)


def _name(row: int, origin: str) -> str:
    """Its row first, so that names are in the order of the input and none comes twice."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", PurePosixPath(origin).stem)[:_MOST_CHARACTERS]
    return f"{row:08d}-{stem.strip('.') or 'mask'}.png"


def _shares(mask: dict[str, Any]) -> dict[str, float]:
    import numpy as np

    from retrainer.formats.masks import read_mask

    values = read_mask(mask["image"]["bytes"], "a mask")
    counts = np.bincount(values.ravel(), minlength=256)
    named = {name: value for value, name in enumerate(mask["classes"]) if name is not None}
    return {name: round(float(counts[value]) / max(1, values.size), _DIGITS) for name, value in named.items()}
