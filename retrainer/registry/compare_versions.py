"""Two registered versions side by side: on the recipe's present test rows where both can read them, else by
what was stored of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retrainer.errors import ModelError, SettingError
from retrainer.registry.columns import aligned
from retrainer.registry.compare_rows import NotHere, Side, Sides, head_of, scored
from retrainer.registry.unaltered import SIGNED, unaltered_model
from retrainer.services import keys, lineage, lookup
from retrainer.services.readers import MODEL_SHA256, TEST_SHA256
from retrainer.services.runs import DATASET_SHA256, SETTINGS_SHA256
from retrainer.services.scratch import scratch_directory
from retrainer.settings import Evaluation
from retrainer.texts import shortened

_LINEAGE = (
    *("verdict", MODEL_SHA256, DATASET_SHA256, SETTINGS_SHA256, TEST_SHA256, "test_uses"),
    *(*lineage.CODE, "kfp_run_id", "dvc_model_md5", "dvc_dataset_md5", SIGNED),
    *("train_run_id", "evaluation_run_id"),
)
# Versions of before report format 2 have `calibration.…`.
_STORED = ("gate.", "details.", "calibration.", "cost.")
_TAG_CHARACTERS = 44


def compare_versions(
    name: str, numbers: tuple[str, str], dataset: Path, evaluation: Evaluation, metric: str, device: str
) -> list[str]:
    """What is to be said of the two, as lines. `metric` is `gate.metric`.

    Raises UserError for a version that is unknown or was altered, and for a dataset that is not whole.
    """
    if numbers[0] == numbers[1]:
        raise SettingError(f"A={numbers[0]} B={numbers[1]}: two different versions are needed")
    with scratch_directory() as scratch:
        a, b = (_side(name, number, scratch / number) for number in numbers)
        try:
            lines = scored((a, b), dataset, evaluation, metric, device)
        except NotHere as reason:
            lines = [f"stored figures only, each of its own test rows: {reason}", *_stored((a, b))]
        return [*lines, "", *_origins((a, b))]


def _side(name: str, number: str, into: Path) -> Side:
    found = lookup.by_version(name, number)
    if found is None:
        uri = f"models:/{name}/{number}"
        raise ModelError(
            f"{uri}: there is no such version; `make history` and `make ui` show those there are"
        )
    return Side(found, unaltered_model(found, into, keys.verify_key()))


def _origins(sides: Sides) -> list[str]:
    names = [name for name in _LINEAGE if any(name in side.version.tags for side in sides)]
    return _tags(sides, names)


def _stored(sides: Sides) -> list[str]:
    names = sorted({name for side in sides for name in side.version.tags if name.startswith(_STORED)})
    return _tags(sides, names)


def _tags(sides: Sides, names: Sequence[str]) -> list[str]:
    def values(name: str) -> list[str]:
        return [shortened(side.version.tags.get(name, "–"), _TAG_CHARACTERS) for side in sides]

    return aligned([head_of(sides), *((name, *values(name)) for name in names)])
