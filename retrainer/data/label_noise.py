"""Labels of training rows that a model which never saw them contradicts, and what share of all is wrong.

Legend: N rows of the sample, K classes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from retrainer.data.languages import languages_of
from retrainer.data.noisy_parts import noisy_parts
from retrainer.data.out_of_sample import LeaveOneOut, probabilities
from retrainer.data.shifted_labels import check_shifted_labels
from retrainer.data.splits import Rows
from retrainer.data.tables import take_rows
from retrainer.data.task_columns import TaskColumns
from retrainer.data.vectors.rows import row_vectors
from retrainer.findings import Findings
from retrainer.formats.dataset import LABELS
from retrainer.formats.files import write_text
from retrainer.label_errors import suspected

_LEAST_ROWS = 200
# A model that tells less of what is to be learned is wrong where it is surest, too. Wrong labels hide a part
# of it, so that it is judged by what it would be without them; of less than the last, that is a guess.
_LEAST_SKILL, _LEAST_OF_NOISY = 0.38, 0.2
# A model of less skill than this, fitted to few images, errs at its surest in so many rows more; of texts and
# sounds none does (benchmarks/trust/noise.py).
_SKILLED, _MORE_ROWS = 0.55, 60
# The share of the rows, the surest, that the rate is read off.
_SUREST = 0.3
_SIGMAS = 2.0
# Rows times classes: the answers of a model take as many numbers, some times over.
_MOST_CELLS = 20_000_000
_CHECKS = ("shifted_labels", "label_noise")


FILE = "suspected_labels.jsonl"


@dataclass(frozen=True)
class Suspect:
    """A training row by its place in the table, its label, and the one that the rows like it have."""

    row: int
    given: str
    suggested: str
    probability: float


def check_labels(
    table: pa.Table, columns: TaskColumns, rows: Rows, training: list[int], findings: Findings
) -> list[Suspect]:
    """The checks `shifted_labels` and `label_noise`; the suspected rows, the most suspect first.

    Only where every training row has one class and the task reads texts, images or sounds.
    """
    wanted = [name for name in _CHECKS if columns.classes == LABELS and findings.looks(name)]
    sample = training[: findings.checks.label_noise_rows]
    if not wanted or len(sample) < _LEAST_ROWS or any(len(rows.classes[row]) != 1 for row in sample):
        return []
    names = sorted({rows.classes[row][0] for row in sample})
    if len(sample) * len(names) > _MOST_CELLS:
        for name in wanted:
            findings.add(name, 0, "there are too many classes for a linear model to judge the labels")
        return []
    inputs = take_rows(table.select(columns.inputs), sample)
    vectors = row_vectors(inputs, columns)
    if vectors is None:
        return []
    left_out = LeaveOneOut(vectors)
    if "shifted_labels" in wanted:
        check_shifted_labels(rows, sample, names, left_out, findings)
    if "label_noise" not in wanted:
        return []
    if columns.inputs_of("string") and not columns.inputs_of("image"):
        _note_noisy_languages(inputs, columns, rows, sample, left_out, findings)
    return _noise(rows, sample, names, left_out, _MORE_ROWS if columns.inputs_of("image") else 0, findings)


def _note_noisy_languages(
    inputs: pa.Table,
    columns: TaskColumns,
    rows: Rows,
    sample: Sequence[int],
    left_out: LeaveOneOut,
    findings: Findings,
) -> None:
    """Adds a finding for each language whose labels are about random."""
    languages = languages_of(inputs[columns.inputs_of("string")[0]].to_pylist())
    _, given = np.unique([rows.classes[row][0] for row in sample], return_inverse=True)
    for part in noisy_parts(languages, left_out, given):
        examples = (f"{rows.origins[sample[at]]}: {rows.classes[sample[at]][0]}" for at in part.rows)
        cure = "have them labelled by people who read them, or leave them out"
        findings.add("label_noise", len(part.rows), part.said(), examples, cure)


def _noise(
    rows: Rows,
    sample: Sequence[int],
    names: list[str],
    left_out: LeaveOneOut,
    more_rows: int,
    findings: Findings,
) -> list[Suspect]:
    """`more_rows`: by so many the wrong labels must exceed the bound where the rows are hard."""
    numbers = {name: number for number, name in enumerate(names)}
    given = np.array([numbers[rows.classes[row][0]] for row in sample], np.int64)
    told = probabilities(left_out.scores(given, len(names)), given)
    noise = estimated(told, given)
    if noise.too_hard:
        findings.add("label_noise", 0, "the rows are too hard for a linear model to judge their labels")
        return []
    found = [
        Suspect(sample[at], names[given[at]], names[int(told[at].argmax())], float(told[at].max()))
        for at in suspected(told, given)[: round(noise.rate * len(given))]
    ]
    if not noise.exceeds(findings.checks.label_noise_share, more_rows):
        # Without the figures, which another processor may round otherwise: the manifest is to be the same.
        findings.add("label_noise", 0, "training rows have a label that the rows like them contradict")
        return found
    note = (
        f"of {len(sample):,} training rows have a label that the rows like them contradict; about"
        f" {noise.rate:.1%} (± {_SIGMAS * noise.error:.1%}) of the labels are wrong"
    )
    if noise.skill < _SKILLED:
        note += ", rather fewer than more, as the rows are hard for a linear model"
    examples = (f"{rows.origins[one.row]}: {one.given}, rather {one.suggested}" for one in found)
    findings.add("label_noise", len(found), note, examples, "correct the labels")
    return found


@dataclass(frozen=True)
class Noise:
    """`rate` of wrong labels and its standard `error`, of so many `rows`. `noisy`: the share that the model
    tells of what the commonest class gets wrong; `skill`: the same, had no label been wrong."""

    rate: float
    error: float
    noisy: float
    rows: int

    @property
    def skill(self) -> float:
        return self.noisy / max(1 - self.rate, _LEAST_OF_NOISY)

    @property
    def too_hard(self) -> bool:
        return self.noisy < _LEAST_OF_NOISY or self.skill < _LEAST_SKILL

    def exceeds(self, share: float, more_rows: int) -> bool:
        """Whether more than this share is wrong, not by chance; of hard rows, by `more_rows` more."""
        least = share + (more_rows / self.rows if self.skill < _SKILLED else 0)
        return not self.too_hard and self.rate - _SIGMAS * self.error >= least


def estimated(told: np.ndarray, given: np.ndarray) -> Noise:
    """From what a model says of rows that it never saw, [N, K], and their labels int64 [N]."""
    return Noise(*noise_rate(told, given), _skill(told, given), len(given))


def _skill(told: np.ndarray, given: np.ndarray) -> float:
    """Of the rows that the commonest class gets wrong, the share that the answers get right besides."""
    majority = np.bincount(given).max() / len(given)
    return float(((told.argmax(axis=1) == given).mean() - majority) / max(1 - majority, 1e-9))


def noise_rate(told: np.ndarray, given: np.ndarray) -> tuple[float, float]:
    """An estimate of the share of wrong labels, and its standard error.

    The surer a model is of a row that it never saw, the seldomer it is wrong; at the end of that scale the
    share of rows that are given another label than it says is that of the wrong labels, where these do not
    depend on how clear a row is (the anchor points of T. Liu and D. Tao, IEEE TPAMI 38, 2016). It is read off
    a straight line through the surest rows: their disagreement by their rank.
    """
    surest = np.argsort(-told.max(axis=1), kind="stable")[: max(2, int(_SUREST * len(given)))]
    disagrees = (told[surest].argmax(axis=1) != given[surest]).astype(np.float64)
    rank = np.arange(len(surest)) / len(surest)
    inverse = np.linalg.inv([[len(surest), rank.sum()], [rank.sum(), (rank**2).sum()]])
    at_end, slope = inverse @ [disagrees.sum(), (rank * disagrees).sum()]
    spread = np.mean((disagrees - at_end - slope * rank) ** 2)
    error = math.sqrt(inverse[0, 0] * max(float(spread), 1 / len(surest)))
    return float(np.clip(at_end, 0, 1)), error


def write_suspects(folder: Path, suspects: Sequence[Suspect], origins: Sequence[str]) -> None:
    """One line of JSON a row, the most suspect first."""
    lines = [
        {
            "origin": origins[one.row],
            "label": one.given,
            "suggested": one.suggested,
            "probability": round(one.probability, 4),
        }
        for one in suspects
    ]
    write_text(folder / FILE, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
