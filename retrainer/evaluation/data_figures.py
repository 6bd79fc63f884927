"""What is kept of a dataset, as `data.figures` of metrics.json, for a later month to be compared with."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from retrainer.formats.profile import FILE as PROFILE
from retrainer.formats.profile import read_profile
from retrainer.gate.data_figures import DataFigures, Length, Months

if TYPE_CHECKING:
    from retrainer.formats.dataset import Dataset
    from retrainer.formats.profile import Profile
    from retrainer.gate.evidence import Champion

# Of the profile's measures those of length, size and rate, which are logarithms.
_LENGTHS = ("characters", "pixels", "milliseconds", "kHz")
_DUPLICATE = "duplicate"
# Reasons of rows that were left out although nothing is missing of them.
_USABLE = (
    _DUPLICATE,
    "class not selected",
    "also in the ",
    "near-duplicate of a ",
    "conflicting ",
    "over split.",
    "the same file in another class folder",
)


def months_of(champion: Champion | None, data: Dataset) -> Months:
    """Today's data beside the champion's."""
    same = champion is not None and champion.dataset_sha256 == data.content_sha256
    return Months(data_figures(data), champion.data if champion else None, data.content_sha256, same)


def data_figures(data: Dataset) -> DataFigures:
    """From the manifest, and of lengths from the profile; a dataset of an older version has none."""
    manifest, path = data.manifest, data.path / PROFILE
    profile = read_profile(path) if path.is_file() else None
    dropped: dict[str, int] = manifest.get("dropped", {})
    rows = sum(manifest["rows"].values()) + sum(dropped.values())
    classes = Counter[str]()
    for of_split in manifest["classes"].values():
        classes.update(of_split)
    unusable = sum(count for reason, count in dropped.items() if not reason.startswith(_USABLE))
    return DataFigures(
        rows=rows,
        test_rows=manifest["rows"].get("test", 0),
        independent_rows=profile.rows if profile else 0,
        classes=dict(sorted(classes.items())),
        duplicates=round(dropped.get(_DUPLICATE, 0) / max(1, rows), 6),
        unusable=round(unusable / max(1, rows), 6),
        lengths=_lengths(profile) if profile else {},
        grouped=1 - manifest.get("schema", {}).get("group", {"absent": 1.0})["absent"],
    )


def _lengths(profile: Profile) -> dict[str, Length]:
    found = {}
    for at, name in enumerate(profile.names):
        values = profile.measures[:, at]
        if name.startswith(_LENGTHS) and len(values):
            # A few outliers must not hide a change of all the others.
            low, median, high = (float(one) for one in _quantiles(values))
            found[name] = Length(round(median, 6), round((high - low) / 2, 6), len(values))
    return found


def _quantiles(values: Any) -> Any:
    """Of normal values the first and last are one standard deviation from the median."""
    import numpy as np

    return np.quantile(values.astype(np.float64), [0.158655, 0.5, 0.841345])
