"""What a model says of a private training: `privacy` of model.json and of metrics.json.

epsilon, delta      spent by the steps really taken, by the accountant: an upper bound
asked               the epsilon of the settings
accountant          Opacus' name of it
noise_multiplier, sample_rate, steps, clip_norm     from which anyone can compute it again
start               public weights, private (a private model of ours) or not private (another of ours)
total_epsilon, total_delta      with what the start spent; null where that is not bounded
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrainer.errors import ModelError
from retrainer.formats._description import DESCRIPTION, read_description

PRIVACY = "privacy"
PUBLIC, PRIVATE, NOT_PRIVATE = "public weights", "private", "not private"

Facts = dict[str, Any]


def with_start(facts: Facts, start: Path | str | None) -> Facts:
    """The facts of a training that began with `start`: of one after the other the sums are spent."""
    if not isinstance(start, Path) or not (start / DESCRIPTION).is_file():
        return facts | {
            "start": PUBLIC,
            "total_epsilon": facts["epsilon"],
            "total_delta": facts["delta"],
        }
    before = read_description(start).get(PRIVACY)
    if not before or before.get("total_epsilon") is None:
        return facts | {"start": NOT_PRIVATE, "total_epsilon": None, "total_delta": None}
    try:
        epsilon, delta = (float(before[f"total_{name}"]) for name in ("epsilon", "delta"))
    except (KeyError, TypeError, ValueError):
        raise ModelError(f"{start / DESCRIPTION}: '{PRIVACY}' has no total_epsilon and total_delta") from None
    return facts | {
        "start": PRIVATE,
        "total_epsilon": round(epsilon + facts["epsilon"], 6),
        "total_delta": delta + facts["delta"],
    }


def sentences(facts: Facts) -> list[str]:
    """The same for people, without a full stop."""
    said = [
        f"epsilon {facts['epsilon']:.3g} (asked: {facts['asked']:g}) at delta {facts['delta']:g} for each"
        f" training row, by DP-SGD: {facts['steps']:,} steps, noise {facts['noise_multiplier']:.3g} times the"
        f" largest norm of a row's gradient, {100 * facts['sample_rate']:.3g}% of the rows a step"
    ]
    if facts["start"] == NOT_PRIVATE:
        said.append(
            "it started from a model that was trained without privacy: what that one remembers of its rows is"
            " not bounded"
        )
    if facts["start"] == PRIVATE:
        said.append(
            f"with the private model that it started from, a row in both has epsilon"
            f" {facts['total_epsilon']:.3g} at delta {facts['total_delta']:g}"
        )
    return said
