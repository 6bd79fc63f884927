"""The learning curve of a recipe: its own settings, trained on nested random parts of the training rows.

Every model is scored by the gate's metric on the same rows, those of the test. No model of a curve is kept or
registered, so that nothing is chosen by these rows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from retrainer.data.tables import take_rows
from retrainer.errors import DataError, SettingError
from retrainer.formats.dataset import About, write_dataset
from retrainer.formats.files import digest_of, write_json
from retrainer.formats.row_keys import read_components
from retrainer.gate.measured import measure
from retrainer.gate.scores import Scores
from retrainer.need.extrapolate import LEAST_SIZES, Made, Point
from retrainer.need.subsets import nested_parts

if TYPE_CHECKING:
    from retrainer.training.inputs import Inputs

SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
# Small parts differ more from each other, and cost less: in all about three times the training itself.
_MOST_DRAWS, _LEAST_DRAWS = 4, 2
# Fewer rows than this teach nobody anything.
LEAST_ROWS = 8


@dataclass(frozen=True)
class Trainings:
    """What is trained: `inputs` on parts of `sizes` training rows; `device` predicts, `known` is a JSON file
    of values that an earlier call, perhaps a killed one, has measured; `tell` is told of each training."""

    inputs: Inputs
    scores: Scores
    sizes: Sequence[int]
    device: str
    known: Path
    tell: Callable[[str], None]

    def points(self, scratch: Path) -> list[Point]:
        """Trains every part, the small ones first. `scratch` takes datasets and models, one at a time."""
        made = [Made([], []) for _ in self.sizes]
        judged = _judged(self.inputs)
        for place, part, draw in self._parts():
            began = time.monotonic()
            found = self._value(part, draw, judged, scratch)
            made[place].rows.append(len(part))
            made[place].values.append(found)
            took = f"{time.monotonic() - began:.0f} s"
            self.tell(f"{len(part):,} rows, draw {draw + 1}: {self.scores.gate_title} {found:.4f} ({took})")
        return [one.point for one in made]

    @cached_property
    def _digest(self) -> str:
        return self.inputs.digest()

    def _parts(self) -> Iterator[tuple[int, np.ndarray, int]]:
        """(place of the size, row numbers, draw): small sizes with more draws; those of a draw are nested."""
        data = self.inputs.data
        rows = int(data.manifest["rows"]["train"])
        linked = read_components(data.path).get("train")
        units = np.arange(rows) if linked is None or len(linked) != rows else linked
        seed = self.inputs.settings.training.seed
        parts = [nested_parts(units, self.sizes, seed + draw) for draw in range(_MOST_DRAWS)]
        for place, size in enumerate(self.sizes):
            draws = 1 if size >= rows else max(_LEAST_DRAWS, _MOST_DRAWS - place)
            yield from ((place, parts[draw][place], draw) for draw in range(draws))

    def _value(self, part: np.ndarray, draw: int, judged: pa.Table, scratch: Path) -> float:
        """Of a model that is trained on the part, or was before."""
        known = json.loads(self.known.read_text(encoding="utf-8")) if self.known.is_file() else {}
        name = digest_of([self._digest, part.tolist(), draw, self.scores.gate_metric])
        if name not in known:
            known[name] = self._trained(part, draw, judged, scratch)
            write_json(self.known, known)
        return float(known[name])

    def _trained(self, part: np.ndarray, draw: int, judged: pa.Table, scratch: Path) -> float:
        from retrainer.predict import Predictor
        from retrainer.training.inputs import Inputs
        from retrainer.training.train import train_model

        settings, data = self.inputs.settings, self.inputs.data
        splits = {"train": take_rows(data.split("train"), part.tolist())}
        splits |= {name: data.split(name) for name in ("validation",) if data.manifest["rows"].get(name)}
        write_dataset(scratch / "dataset", splits, About(types=data.manifest.get("types", {})))
        # Another draw is another training: with the weights, too, drawn anew.
        training = settings.training.model_copy(update={"seed": settings.training.seed + draw})
        inputs = Inputs(scratch / "dataset", settings._replace(training=training), self.inputs.weights)
        train_model(inputs, scratch / "model")
        predictions = Predictor.load(scratch / "model", self.device).judge(judged)
        name = self.scores.gate_metric
        return measure(self.scores.metrics[name], name, predictions, judged).value


def _judged(inputs: Inputs) -> pa.Table:
    data = inputs.data
    if not data.manifest["rows"].get("test"):
        raise DataError(f"{data.path} has no test rows to draw a curve by; set split.test above 0")
    return data.split("test")


def parse_sizes(text: str, rows: int) -> list[int]:
    """`1/8 1/4 0.5 1`, or numbers of rows, apart by spaces or commas; empty gives SHARES. Rising, each once.

    Raises SettingError for what is no size, too few, or more than there are `rows`.
    """
    words = text.replace(",", " ").split()
    sizes = sorted({_size(word, rows) for word in words} if words else {round(s * rows) for s in SHARES})
    if sizes[0] < LEAST_ROWS or sizes[-1] > rows:
        raise SettingError(
            f"SIZES: parts of {sizes[0]:,} to {sizes[-1]:,} rows, and there are {rows:,} training rows;"
            f" give {LEAST_ROWS} to {rows:,}"
        )
    if len(sizes) < LEAST_SIZES:
        raise SettingError(
            f'SIZES={text}: a curve needs {LEAST_SIZES} sizes or more, as in SIZES="1/8 1/4 1/2 1"'
        )
    return sizes


def _size(word: str, rows: int) -> int:
    part, _, whole = word.partition("/")
    try:
        number = float(part) / float(whole or 1)
    except (ValueError, ZeroDivisionError):
        number = -1.0
    if not 0 < number < float("inf") or (number > 1 and not number.is_integer()):
        raise SettingError(f"SIZES: {word} is neither a share of the rows, as 1/8, nor a number of rows")
    return round(number * rows) if number <= 1 else int(number)
