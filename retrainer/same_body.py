"""Models that differ in the head alone, as a head that is trained anew each month on one frozen body.

Features that one of them has made of some rows are the other's too: `Predictor.predict(rows, features)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrainer.predict import Predictor

# What model.json says of the part below the head, and of how rows are prepared for it.
_BELOW_THE_HEAD = ("family", "config", "preprocessing", "task")


def same_body(one: Predictor, other: Predictor) -> bool:
    """Whether both make the same features of any row, to the bit: below the head they have the same code,
    shape and weights, prepare rows alike, and compute on one device. False where that is not known."""
    import torch

    if one.description is None or other.description is None or one.device != other.device:
        return False
    if any(one.description.get(name) != other.description.get(name) for name in _BELOW_THE_HEAD):
        return False
    first, second = one.network, other.network
    mine, its = first.body.state_dict(), second.body.state_dict()
    return (
        first.description.assets == second.description.assets
        and mine.keys() == its.keys()
        and all(torch.equal(tensor, its[name]) for name, tensor in mine.items())
    )
