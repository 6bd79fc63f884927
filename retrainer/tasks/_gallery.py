"""Who is enrolled, and who of them a row is.

A gallery is a folder: each folder in it is one identity by its name, each file in that a recording or
picture. It is read when the model is loaded, so that embeddings are always those of the model which compares
them, and whose folder is gone is forgotten.

Legend: B rows of a batch, D numbers of an embedding, G identities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from retrainer.errors import DataError, SettingError
from retrainer.formats.columns import ENCODED
from retrainer.metrics._pair_scores import embeddings

UNKNOWN = "unknown"
_LARGEST = 64 * 2**20
_AT_ONCE = 16  # files, together less than the 2 GiB that one array of Arrow's holds


@dataclass(frozen=True)
class Gallery:
    """`names` [G], and `means` float64 [G, D]: of each identity's embeddings, which have the length 1."""

    names: tuple[str, ...]
    means: np.ndarray

    def scores(self, made: np.ndarray) -> np.ndarray:
        """Embeddings [B, D] → float64 [B, G]: the mean of the cosines with the rows of each identity, which
        is the product with their mean."""
        return np.asarray(made.astype(np.float64) @ self.means.T)


def enrolled(folder: Path, column: str, predict: Callable[[pa.Table], pa.Table]) -> Gallery:
    """`predict` makes the embeddings of a table with `column`. Raises UserError naming the folder or file."""
    if not folder.is_dir():
        raise SettingError(
            f"GALLERY={folder}: there is no such folder; give one with a folder for each person"
        )
    files = [(person.name, file) for person in _folders(folder) for file in _files(person)]
    if not files:
        raise SettingError(f"GALLERY={folder} holds no folder; needed is one for each person")
    for _, file in files:
        if not file.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"GALLERY: {file} is a link out of {folder}; copy the file it stands for")
    made = np.concatenate([embeddings(predict(part)) for part in _tables(files, column)]).astype(np.float64)
    names, places = np.unique([name for name, _ in files], return_inverse=True)
    sums: np.ndarray = np.zeros((len(names), made.shape[1]))
    np.add.at(sums, places, made)
    return Gallery(tuple(names.tolist()), sums / np.bincount(places)[:, None])


def _tables(files: list[tuple[str, Path]], column: str) -> Iterator[pa.Table]:
    """Some files at a time, so that a large gallery is never in memory as a whole."""
    for start in range(0, len(files), _AT_ONCE):
        part = files[start : start + _AT_ONCE]
        content = [{"bytes": file.read_bytes(), "path": None} for _, file in part]
        origins = [f"{name}/{file.name}" for name, file in part]
        yield pa.table({column: pa.array(content, ENCODED), "origin": pa.array(origins, pa.string())})


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
