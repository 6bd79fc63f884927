"""Today's rows beside the champion's: which are new, and whether the new ones differ from the champion's.

Data accumulate: this month's rows mostly are last month's. So the new rows alone are tested, against the
profile of the champion's. Of rows that depend on each other one counts (retrainer/data/profile).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from retrainer.data.profile import NO_LABEL, chosen_labels, labels_of, profile_of
from retrainer.errors import DataError
from retrainer.formats.dataset import Dataset
from retrainer.formats.profile import Profile
from retrainer.formats.row_keys import read_components, read_row_keys
from retrainer.gate.chance import p_said
from retrainer.retraining.last_training import keys_of, profile_of_version
from retrainer.retraining.two_sample import Tested, adjusted, compare_inputs, compare_labels
from retrainer.services.readers import RegisteredVersion
from retrainer.settings import Retrain

# Corrected labels are a reason to train, a handful of them is none.
_RELABELLED = 0.01


@dataclass(frozen=True)
class Drift:
    """What was found, in the words and numbers of decision.json."""

    choice: Literal["train", "stop"] = "train"
    reason: str = ""
    why: str = ""
    rows: Mapping[str, int] = field(default_factory=dict)
    tests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Today:
    """The rows that may be compared: all but those of the user's own test set."""

    table: pa.Table
    keys: np.ndarray
    components: np.ndarray


def read_today(dataset: Path) -> Today:
    """Raises UserError for a dataset that an older version made: it says nothing of components."""
    data = Dataset(dataset)
    keys, linked = read_row_keys(dataset), read_components(dataset)
    if not keys or not linked:
        raise DataError(f"{dataset} was made by an older version and has no profile; run preprocess again")
    splits = [name for name in data.manifest["profile"]["splits"] if name in keys]
    return Today(
        pa.concat_tables([data.split(name) for name in splits]),
        np.concatenate([keys[name] for name in splits]),
        np.concatenate([linked[name] for name in splits]),
    )


def new_rows(known: np.ndarray | None, dataset: Path) -> dict[str, int]:
    """How many rows are `new` beside a model's `known` keys, and how many `gone`; nothing without keys."""
    if known is None:
        return {}
    today = np.concatenate(list(read_row_keys(dataset).values()))
    return {"new": int((~np.isin(today, known)).sum()), "gone": int((~np.isin(known, today)).sum())}


def drift_since(champion: RegisteredVersion, dataset: Path, retrain: Retrain, scratch: Path) -> Drift:
    """Whether to train under policy `drift`. Raises UserError when the champion's files are not to be had."""
    before, known = profile_of_version(champion, scratch), keys_of(champion, scratch)
    rows = new_rows(known, dataset)
    lacking = "row keys" if known is None else "statistics of its data" if before is None else ""
    if known is None or before is None:
        why = f"the champion, version {champion.version}, carries no {lacking}: an older version made it"
        return Drift("train", "no-statistics", why, rows)
    today = read_today(dataset)
    places = np.flatnonzero(~np.isin(today.keys, known))
    new = profile_of(today.table, places.tolist(), today.keys[places], today.components[places])
    if (before.columns, before.names) != (new.columns, new.names):
        why = f"the champion's statistics are of other inputs: {', '.join(before.columns) or 'none'}"
        return Drift("train", "no-statistics", why, rows)
    rows |= {"independent": new.rows, "reference": before.rows, "sampled": len(before.keys)}
    rows |= relabelled(before, today)
    return judge(before, new, rows, retrain)


def relabelled(before: Profile, today: Today) -> dict[str, int]:
    """Of the champion's sampled rows those that are still here, and those of them with another label."""
    _, then, now = np.intersect1d(before.keys, today.keys, return_indices=True)
    labels = chosen_labels(labels_of(today.table).take(pa.array(now)), today.keys[now])
    changed = sum(before.labels[at] != label for at, label in zip(then, labels, strict=True))
    return {"compared": len(now), "relabelled": int(changed)}


def judge(before: Profile, new: Profile, rows: Mapping[str, int], retrain: Retrain) -> Drift:
    """The decision by two profiles and the counts of `drift_since`."""
    if rows["relabelled"] > _RELABELLED * rows["compared"]:
        why = f"{rows['relabelled']:,} of {rows['compared']:,} rows that were compared have another label now"
        return Drift("train", "relabelled", why, rows)
    if new.rows < retrain.min_new_rows:
        why = f"{new.rows:,} independent new rows are too few to test (retrain.min_new_rows)"
        return Drift("stop", "too-few-rows", why, rows)
    tests = compare(before, new)
    if not tests:
        return Drift("train", "no-statistics", "neither labels nor inputs of these rows are measured", rows)
    drifted = [name for name, test in tests.items() if test["adjusted"] <= retrain.alpha]
    p_values = ", ".join(f"{name} {p_said(test['adjusted'], 3)}" for name, test in tests.items())
    if drifted:
        return Drift("train", "drift", f"{' and '.join(drifted)} drifted ({p_values})", rows, tests)
    if retrain.growth and new.rows >= retrain.growth * before.rows:
        why = f"no drift ({p_values}), but {new.rows:,} new rows beside {before.rows:,} (retrain.growth)"
        return Drift("train", "grown", why, rows, tests)
    return Drift("stop", "no-drift", f"{new.rows:,} new rows show no drift ({p_values})", rows, tests)


def compare(before: Profile, new: Profile) -> dict[str, dict[str, Any]]:
    """Both tests with their p-values, as in decision.json: of labels and of inputs, where there are any."""
    found: dict[str, Tested] = {}
    if {*before.counts, *new.counts} != {NO_LABEL}:
        found["labels"] = compare_labels(before.counts, new.counts)
    if before.embedding.shape[1] or before.names:
        sides = [(one.measures, one.embedding) for one in (before, new)]
        found["inputs"] = compare_inputs(before.names, sides[0], sides[1])
    by_holm = adjusted({name: test.p_value for name, test in found.items()})
    return {
        name: {
            "p_value": test.p_value,
            "adjusted": by_holm[name],
            "parts": dict(test.parts),
            "largest": [dict(one) for one in test.largest],
        }
        for name, test in found.items()
    }
