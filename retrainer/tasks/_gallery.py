"""Who is enrolled, and who of them a row is.

A gallery is a folder: each folder in it is one identity by its name, each file in that a recording or
picture. It is read when the model is loaded, so that embeddings are always those of the model which compares
them, and whose folder is gone is forgotten.

Legend: B rows of a batch, D numbers of an embedding, E enrolled rows, G identities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from retrainer.errors import DataError, SettingError
from retrainer.formats.columns import ENCODED
from retrainer.metrics._pair_scores import embeddings

UNKNOWN = "unknown"
_LARGEST = 64 * 2**20


@dataclass(frozen=True)
class Gallery:
    """`names` [G]; `made` float32 [E, D] of length 1; `places` int64 [E]: whose each row is."""

    names: tuple[str, ...]
    made: np.ndarray
    places: np.ndarray

    def scores(self, made: np.ndarray) -> np.ndarray:
        """Embeddings [B, D] → float64 [B, G]: the mean of the cosines with the rows of each identity."""
        found: np.ndarray = np.zeros((len(made), len(self.names)))
        cosines = made.astype(np.float64) @ self.made.T
        for place in range(len(self.names)):
            found[:, place] = cosines[:, self.places == place].mean(axis=1)
        return found


def enrolled(folder: Path, column: str, predict: Callable[[pa.Table], pa.Table]) -> Gallery:
    """`predict` makes the embeddings of a table with `column`. Raises UserError naming the folder or file."""
    if not folder.is_dir():
        raise SettingError(
            f"GALLERY={folder}: there is no such folder; give one with a folder for each person"
        )
    files = [(person.name, file) for person in _folders(folder) for file in _files(person)]
    if not files:
        raise SettingError(f"GALLERY={folder} holds no folder; needed is one for each person")
    content = [{"bytes": file.read_bytes(), "path": None} for _, file in files]
    origins = [f"{name}/{file.name}" for name, file in files]
    table = pa.table({column: pa.array(content, ENCODED), "origin": pa.array(origins, pa.string())})
    names = tuple(sorted({name for name, _ in files}))
    places = np.array([names.index(name) for name, _ in files], np.int64)
    return Gallery(names, embeddings(predict(table)), places)


def _folders(folder: Path) -> list[Path]:
    found = sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
    for one in found:
        if one.name == UNKNOWN:
            raise SettingError(
                f"GALLERY={folder}: '{UNKNOWN}' is what is answered of a stranger; rename {one}"
            )
    return found


def _files(person: Path) -> list[Path]:
    found = sorted(one for one in person.iterdir() if one.is_file() and not one.name.startswith("."))
    if not found:
        raise DataError(f"GALLERY: {person} is empty; put a recording or picture there, or remove the folder")
    for one in found:
        if one.stat().st_size > _LARGEST:
            raise DataError(f"GALLERY: {one} is larger than {_LARGEST // 2**20} MiB; cut it")
    return found


def answers(made: np.ndarray, gallery: Gallery | None, threshold: float) -> pa.Table:
    """Embeddings [B, D] → `identity`, `score`, `threshold` and `embedding` of each row."""
    listed = pa.array(made.astype(np.float32).tolist(), pa.list_(pa.float32()))
    same = {"threshold": pa.array([threshold] * len(made), pa.float64()), "embedding": listed}
    if gallery is None:
        nobody = {"identity": pa.nulls(len(made), pa.string()), "score": pa.nulls(len(made), pa.float64())}
        return pa.table(nobody | same)
    scores = gallery.scores(made)
    best = scores.argmax(axis=1)
    highest = scores[np.arange(len(made)), best]
    names = [
        gallery.names[at] if score >= threshold else UNKNOWN for at, score in zip(best, highest, strict=True)
    ]
    found = {"identity": pa.array(names, pa.string()), "score": pa.array(highest, pa.float64())}
    return pa.table(found | same)
