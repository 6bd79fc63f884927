"""Which of today's test rows a model has met before, by the row keys that travel with datasets and models.

A model that was trained on a test row may know its answer by heart: rows that the champion has learned from
are left out of the comparison, rows that the judged model has learned from are left out altogether. So are
all rows of their components (near-duplicates, one group), whichever of them a model has learned from. What a
model started from counts: it has inherited the row keys.
Legend: N test rows of today.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.errors import DataError
from retrainer.formats.dataset import row_digest
from retrainer.formats.row_keys import learned_keys, read_row_keys, with_relatives

if TYPE_CHECKING:
    import pyarrow as pa

# Test set's digest → digests of the registered models that it has judged.
JudgedOn = Callable[[str], Collection[str]]


@dataclass(frozen=True)
class Overlap:
    """`unseen`: bool [N], rows of whose components the other model never learned from any. `new`: bool [N],
    rows that its own test did not have; `gone`: how many its test had, and today's has not."""

    unseen: np.ndarray
    new: np.ndarray
    gone: int

    def plain(self) -> dict[str, int]:
        """The counts, as they stand in metrics.json."""
        new = int(self.new.sum())
        return {
            "same": len(self.new) - new,
            "new": new,
            "gone": self.gone,
            "left_out": int((~self.unseen).sum()),
        }


def keys_of_test(dataset: Path, rows: int) -> np.ndarray | None:
    """uint64 [N] of the dataset directory's test rows; None where an older version left no row keys.

    Raises UserError when there are not as many as `rows`.
    """
    keys = read_row_keys(dataset).get("test")
    if keys is None:
        return None
    if len(keys) != rows:
        raise DataError(f"{dataset} has {len(keys)} row keys for {rows} test rows; run preprocess again")
    return keys


def digest_of_test(keys: np.ndarray | None, test: pa.Table) -> str:
    """The sha256 of the test rows, whatever their order: of their keys, or else of their content."""
    if keys is not None:
        return hashlib.sha256(np.sort(keys).astype("<u8").tobytes()).hexdigest()
    digests = sorted(row_digest(row) for batch in test.to_batches(1024) for row in batch.to_pylist())
    return hashlib.sha256(b"".join(digests)).hexdigest()


def overlap(keys: np.ndarray | None, model: Path, dataset: Path) -> Overlap | None:
    """Today's test rows, of these keys, beside those of the model directory; None when either has no row
    keys. The dataset directory says which rows are of one component."""
    known = read_row_keys(model)
    if keys is None or not known:
        return None
    nothing: np.ndarray = np.zeros(0, np.uint64)
    tested = known.get("test", nothing)
    gone = int((~np.isin(np.unique(tested), keys)).sum())
    learned = with_relatives(learned_keys(model), dataset)
    return Overlap(unseen=~np.isin(keys, learned), new=~np.isin(keys, tested), gone=gone)


@dataclass(frozen=True)
class HeldOut:
    """Today's test rows: their digest, how many models they have judged (this one included), what the
    champion has met of them (None: it is not known, or no champion answered them), and how many are left out
    altogether, because the judged model has learned from them."""

    sha256: str
    uses: int
    met: Overlap | None
    learned: int = 0

    def plain(self) -> dict[str, Any]:
        """As it stands in metrics.json."""
        met = None if self.met is None else self.met.plain()
        return {"sha256": self.sha256, "uses": self.uses, "champion": met, "learned": self.learned}


@dataclass(frozen=True)
class JudgedRows:
    """A dataset's test rows, and those of them by which a model may be judged.

    `keys`: uint64 [N], None where an older version left none. `kept`: bool [N], False where the model has
    learned from a row of the row's component. `dataset`: the directory.
    """

    keys: np.ndarray | None
    kept: np.ndarray
    dataset: Path

    @classmethod
    def of(cls, dataset: Path, rows: int, model: Path) -> JudgedRows:
        """Raises DataError when the model has learned from every one of the `rows`."""
        keys = keys_of_test(dataset, rows)
        kept: np.ndarray = np.ones(rows, bool)
        if keys is not None:
            kept = ~np.isin(keys, with_relatives(learned_keys(model), dataset))
        if not kept.any():
            raise DataError(
                "the model, or one that it started from, was trained on every test row, or on its"
                " near-duplicates or group; start from other weights (backbone.weights), name test rows that"
                " neither has seen (source.test_path), or leave checks.test_overlap on"
            )
        return cls(keys, kept, dataset)

    def unseen_by(self, model: Path) -> np.ndarray | None:
        """bool, of the rows that are kept: the other model learned neither from them nor from rows of their
        components; None: not known."""
        met = overlap(self.keys, model, self.dataset)
        return None if met is None else met.unseen[self.kept]

    def held_out(
        self, test: pa.Table, model_sha256: str, champion: Path | None, judged_on: JudgedOn
    ) -> HeldOut:
        """`test`: the rows that are kept. `champion`: the directory of the champion that answered them; None
        when none did."""
        digest = digest_of_test(self.keys, test)
        uses = len({*judged_on(digest), model_sha256})
        met = None if champion is None else overlap(self.keys, champion, self.dataset)
        if met is not None:
            met = replace(met, unseen=met.unseen[self.kept], new=met.new[self.kept])
        return HeldOut(digest, uses, met, int((~self.kept).sum()))
