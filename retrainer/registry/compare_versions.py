"""Two registered versions side by side: on the recipe's present test rows where both can read them, else by
what was stored of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.errors import UserError
from retrainer.registry.columns import aligned
from retrainer.registry.unaltered import SIGNED, unaltered_model
from retrainer.services import keys, lineage, lookup
from retrainer.services.readers import MODEL_SHA256, TEST_SHA256, RegisteredVersion
from retrainer.services.runs import DATASET_SHA256, SETTINGS_SHA256
from retrainer.settings import Evaluation

if TYPE_CHECKING:
    import pyarrow as pa

    from retrainer.evaluation.answers import Answers
    from retrainer.evaluation.intervals import Figure

_LINEAGE = (
    *("verdict", MODEL_SHA256, DATASET_SHA256, SETTINGS_SHA256, TEST_SHA256, "test_uses"),
    *(*lineage.CODE, "kfp_run_id", "dvc_model_md5", "dvc_dataset_md5", SIGNED),
    *("train_run_id", "evaluation_run_id"),
)
_STORED = ("gate.", "calibration.", "cost.")
_CLASSES = 5
_TAG_CHARACTERS = 44


@dataclass(frozen=True)
class _Side:
    """A version and its model directory, every hash of which was checked."""

    version: RegisteredVersion
    directory: Path

    @property
    def title(self) -> str:
        return f"version {self.version.version}"


Pair = tuple[_Side, _Side]


def compare_versions(
    name: str, numbers: tuple[str, str], dataset: Path, evaluation: Evaluation, device: str
) -> list[str]:
    """What is to be said of the two, as lines.

    Raises UserError for a version that is unknown or was altered, and for a dataset that is not whole.
    """
    if numbers[0] == numbers[1]:
        raise UserError(f"A={numbers[0]} B={numbers[1]}: two different versions are needed")
    with tempfile.TemporaryDirectory() as scratch:
        a, b = (_side(name, number, Path(scratch) / number) for number in numbers)
        try:
            lines = _scored((a, b), dataset, evaluation, device)
        except _NotHere as reason:
            lines = [f"stored figures only, each of its own test rows: {reason}", *_stored((a, b))]
        return [*lines, "", *_origins((a, b))]


class _NotHere(Exception):
    """Why the two cannot be scored on the same rows here."""


def _side(name: str, number: str, into: Path) -> _Side:
    found = lookup.by_version(name, number)
    if found is None:
        uri = f"models:/{name}/{number}"
        raise UserError(f"{uri}: there is no such version; `make history` and `make ui` show those there are")
    return _Side(found, unaltered_model(found, into, keys.verify_key()))


def _scored(pair: Pair, dataset: Path, evaluation: Evaluation, device: str) -> list[str]:
    from retrainer.evaluation.metrics import headline
    from retrainer.evaluation.overlap import keys_of_test, overlap
    from retrainer.formats.dataset import Dataset
    from retrainer.formats.files import MANIFEST

    if not (dataset / MANIFEST).is_file():
        raise _NotHere(f"{dataset} is not there (`make pipeline` makes it)")
    test = Dataset(dataset).split("test")
    if not len(test):
        raise _NotHere(f"{dataset} has no test rows")
    told = [_ask(side, test, device) for side in pair]
    if told[0].multi_label != told[1].multi_label:
        raise _NotHere("one gives several labels a row, the other one")
    figures = [headline(one, evaluation) for one in told]
    test_keys = keys_of_test(dataset, len(test))
    met = [overlap(test_keys, side.directory) for side in pair]
    learned = ["unknown" if one is None else f"{int((~one.fair).sum()):,}" for one in met]
    lines = [f"{len(test):,} test rows of {dataset}", *_figures(pair, figures, learned)]
    lines += ["", *_paired(pair, told, "all rows")]
    fair = [one.fair for one in met if one is not None]
    if len(fair) == len(pair) and 0 < (neither := fair[0] & fair[1]).sum() < len(test):
        rows = f"the {int(neither.sum()):,} rows that neither was trained on"
        lines += _paired(pair, [one.only(neither) for one in told], rows)
    return [*lines, *_classes(pair, told)]


def _ask(side: _Side, test: pa.Table, device: str) -> Answers:
    from retrainer.evaluation.rivals import ask
    from retrainer.predict import Predictor

    try:
        return ask(Predictor.load(side.directory, device), test)
    except UserError as error:
        raise _NotHere(f"{side.title} cannot answer these rows: {error}") from None


def _figures(pair: Pair, figures: Sequence[dict[str, Figure]], learned: list[str]) -> list[str]:
    from retrainer.evaluation.cost import model_mb

    shown = [
        (metric, *map(_with_interval, (one[metric] for one in figures)))
        for metric in figures[0]
        if metric in figures[1]
    ]
    rows = [("rows it was trained on", *learned), *shown]
    rows.append(("model, MB", *(f"{model_mb(side.directory):,}" for side in pair)))
    return aligned([_head(pair), *rows])


def _with_interval(figure: Figure) -> str:
    return f"{figure['value']:.4f} ({figure['low']:.4f}–{figure['high']:.4f})"


def _head(pair: Pair) -> tuple[str, ...]:
    return ("", *(side.title for side in pair))


def _paired(pair: Pair, told: Sequence[Answers], rows: str) -> list[str]:
    """McNemar's one-sided exact test, both ways."""
    from retrainer.evaluation.compare import compare

    a, b = pair
    there = compare(told[0].correct, told[1].correct)
    back = compare(told[1].correct, told[0].correct)
    return [
        f"{rows}: only {a.title} was right on {there.better:,}, only {b.title} on {there.worse:,}",
        f"  is {a.title} better? p = {there.p_value:.4f}; is {b.title}? p = {back.p_value:.4f} (McNemar)",
    ]


def _classes(pair: Pair, told: Sequence[Answers]) -> list[str]:
    """The classes whose recall differs most, where it differs at all."""
    from retrainer.evaluation.metrics import per_class

    first, second = ({row["label"]: row for row in per_class(one)} for one in told)
    known = [
        (label, row["support"], row["recall"], second[label]["recall"])
        for label, row in first.items()
        if row["support"] and label in second
    ]
    differing = sorted((row for row in known if row[2] != row[3]), key=lambda row: -abs(row[2] - row[3]))
    if not differing:
        return ["", "no class differs in recall"]
    head = ("recall of class", "rows", *(side.title for side in pair))
    rows = [(label, f"{n:,}", f"{a:.4f}", f"{b:.4f}") for label, n, a, b in differing[:_CLASSES]]
    return ["", f"largest of {len(differing):,} differences between classes", *aligned([head, *rows])]


def _origins(pair: Pair) -> list[str]:
    names = [name for name in _LINEAGE if any(name in side.version.tags for side in pair)]
    return _tags(pair, names)


def _stored(pair: Pair) -> list[str]:
    names = sorted({name for side in pair for name in side.version.tags if name.startswith(_STORED)})
    return _tags(pair, names)


def _tags(pair: Pair, names: Sequence[str]) -> list[str]:
    rows = [(name, *(_short(side.version.tags.get(name, "–")) for side in pair)) for name in names]
    return aligned([_head(pair), *rows])


def _short(value: str) -> str:
    return value if len(value) <= _TAG_CHARACTERS else f"{value[: _TAG_CHARACTERS - 1]}…"
