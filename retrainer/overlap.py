"""Which of today's test rows a model has met before, by the row keys that travel with datasets and models.

A model that was trained on a test row may know its answer by heart: rows that the champion has learned from
are left out of the comparison, rows that the judged model has learned from are left out altogether. So are
all rows of their components (near-duplicates, one group), whichever of them a model has learned from. What a
model started from counts: it has inherited the row keys.
Legend: N test rows of today.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.errors import DataError
from retrainer.formats.dataset import row_digest
from retrainer.formats.row_keys import (
    RowKeys,
    joined,
    learned_rows,
    read_components,
    read_left_out,
    read_rows,
)
from retrainer.known_rows import pictured_among, stand_among
from retrainer.uses_of_test_set import EvaluationRows, Judgement

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Overlap:
    """`unseen`: bool [N], rows of whose components the other model never learned from any. `new`: bool [N],
    rows that its own test did not have; `gone`: how many its test had, and today's has not. `saved_again`:
    rows that it knows by their picture alone."""

    unseen: np.ndarray
    new: np.ndarray
    gone: int
    saved_again: int = 0

    def plain(self) -> dict[str, int]:
        """The counts, as they stand in metrics.json."""
        new = int(self.new.sum())
        return {
            "same": len(self.new) - new,
            "new": new,
            "gone": self.gone,
            "left_out": int((~self.unseen).sum()),
            "saved_again": self.saved_again,
        }


@dataclass(frozen=True)
class Today:
    """A dataset's rows by their keys: `test`, N, and `every` one that it has, also those in no split that are
    linked to a test row. `components`: uint64, of each of `every` and of each of `test`; none where an older
    version did not say."""

    test: RowKeys
    every: RowKeys
    components: tuple[np.ndarray, np.ndarray] | None

    @classmethod
    def of(cls, dataset: Path, rows: int) -> Today | None:
        """Of the dataset directory; None where an older version left no row keys.

        Raises DataError when there are not as many of test rows as `rows`.
        """
        known = read_rows(dataset)
        if "test" not in known:
            return None
        if len(known["test"].key) != rows:
            raise DataError(
                f"{dataset} has {len(known['test'].key)} row keys for {rows} test rows; run preprocess again"
            )
        linked = read_components(dataset)
        if not known.keys() <= linked.keys():
            return cls(known["test"], joined(list(known.values())), None)
        left_out, of_left_out = read_left_out(dataset)
        components = np.concatenate([*(linked[name] for name in known), of_left_out])
        return cls(known["test"], joined([*known.values(), left_out]), (components, linked["test"]))

    def met_by(self, known: RowKeys) -> tuple[np.ndarray, np.ndarray]:
        """bool [N] twice: the test rows that stand among a model's `known` ones, and further ones whose
        picture does. Of known rows that are among today's, preprocess has compared the pixels themselves with
        every test row, so their pictures are not asked for."""
        same = stand_among(self.test, known)
        gone = known.take(~np.isin(known.key, self.every.key))
        return same, pictured_among(self.test, gone) & ~same

    def learned_by(self, known: RowKeys) -> tuple[np.ndarray, np.ndarray]:
        """As `met_by`, the first with all test rows that share a component with a known row, or with a test
        row that is known by its picture: who has learned from one knows something of the others."""
        same, pictured = self.met_by(known)
        if self.components is not None:
            every, tested = self.components
            same = same | np.isin(tested, every[stand_among(self.every, known)])
            same = same | (np.isin(tested, tested[pictured]) & ~pictured)
        return same, pictured & ~same


def digest_of_test(today: Today | None, test: pa.Table) -> str:
    """The sha256 of the test rows, whatever their order: of their keys, or else of their content."""
    if today is not None:
        return hashlib.sha256(np.sort(today.test.key).astype("<u8").tobytes()).hexdigest()
    digests = sorted(row_digest(row) for batch in test.to_batches(1024) for row in batch.to_pylist())
    return hashlib.sha256(b"".join(digests)).hexdigest()


def overlap(today: Today | None, model: Path) -> Overlap | None:
    """Today's test rows beside those of the model directory; None when either has no row keys."""
    known = read_rows(model)
    if today is None or not known:
        return None
    tested = known.get("test", RowKeys(np.zeros(0, np.uint64)))
    learned, pictured = today.learned_by(learned_rows(model))
    again = np.logical_or(*today.met_by(tested))
    gone = tested.take(np.unique(tested.key, return_index=True)[1])
    gone = gone.take(~stand_among(gone, today.test))
    gone = gone.take(~pictured_among(gone, today.test))
    return Overlap(
        unseen=~(learned | pictured), new=~again, gone=len(gone.key), saved_again=int(pictured.sum())
    )


@dataclass(frozen=True)
class HeldOut:
    """Today's test rows: their digest, how many models they have judged, this one included
    (`retrainer.uses_of_test_set`), what the champion has met of them (None: it is not known, or no champion
    answered them), how many are left out altogether, because the judged model has learned from them, and the
    sample that is kept of them."""

    sha256: str
    uses: int
    met: Overlap | None
    learned: int = 0
    sample: str = ""

    def plain(self) -> dict[str, Any]:
        """As it stands in metrics.json."""
        met = None if self.met is None else self.met.plain()
        return {
            "sha256": self.sha256,
            "sample": self.sample,
            "uses": self.uses,
            "champion": met,
            "learned": self.learned,
        }


@dataclass(frozen=True)
class JudgedRows:
    """A dataset's test rows, and those of them by which a model may be judged.

    `today`: None where an older version left no row keys. `kept`: bool [N], False where the model has
    learned from a row of the row's component.
    """

    today: Today | None
    kept: np.ndarray

    @classmethod
    def of(cls, dataset: Path, rows: int, model: Path) -> JudgedRows:
        """Raises DataError when the model has learned from every one of the `rows`."""
        today = Today.of(dataset, rows)
        kept: np.ndarray = np.ones(rows, bool)
        if today is not None:
            kept = ~np.logical_or(*today.learned_by(learned_rows(model)))
        if not kept.any():
            raise DataError(
                "the model, or one that it started from, was trained on every test row, or on its"
                " near-duplicates or group; start from other weights (backbone.weights), name test rows that"
                " neither has seen (source.test_path), or leave checks.test_overlap on"
            )
        return cls(today, kept)

    def unseen_by(self, model: Path) -> np.ndarray | None:
        """bool, of the rows that are kept: the other model learned neither from them nor from rows of their
        components; None: not known."""
        met = overlap(self.today, model)
        return None if met is None else met.unseen[self.kept]

    def held_out(
        self, test: pa.Table, model_sha256: str, champion: Path | None, judgements: Iterable[Judgement]
    ) -> HeldOut:
        """`test`: the rows that are kept. `champion`: the directory of the champion that answered them; None
        when none did."""
        rows = EvaluationRows(digest_of_test(self.today, test), self._first_inputs())
        uses = rows.uses(model_sha256, judgements)
        met = None if champion is None else overlap(self.today, champion)
        if met is not None:
            met = replace(met, unseen=met.unseen[self.kept], new=met.new[self.kept])
        return HeldOut(rows.sha256, uses, met, int((~self.kept).sum()), rows.sample)

    def _first_inputs(self) -> np.ndarray | None:
        """Distinct keys of the test rows by the first input alone; a further column changes none of them."""
        if self.today is None:
            return None
        return np.unique(next(iter(self.today.test.inputs.values()), self.today.test.key))
