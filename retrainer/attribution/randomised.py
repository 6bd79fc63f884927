"""The randomisation test: attributions that stay what they are when the weights are random explain nothing.

Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim: Sanity Checks for Saliency Maps, 2018 (arXiv:1810.03292),
with two steps of their cascade: the head alone, and every parameter of the network.

Legend: N rows, P parts of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from retrainer.attribution.explain import values_of

# What people draw of attributions of one network and of a random one looks alike from here on.
MOST_CORRELATION = 0.5
# Fewer parts have no order to speak of.
_FEWEST_PARTS = 4
_SEED = 0
# What becomes random, and whether it is the mirror image of the one before.
RANDOM = (("head", False), ("head", True), ("", False))

Explain = Callable[[nn.Module, int], pa.Table]


@dataclass(frozen=True)
class Randomised:
    """Means over rows of Spearman's rank correlation with the trained network's values. 1: the weights do
    not matter. None: no row has parts enough.

    `whole`: of the values' sizes, all parameters random. `head`: of the values with their signs, mean of a
    random head and its mirror image. Sizes would say little there: a fine-tuned body may know one direction
    alone, by which any head orders the parts alike; but every head has its own sign.
    """

    head: float | None
    whole: float | None
    rows: int

    @classmethod
    def of(
        cls,
        trained: Sequence[np.ndarray],
        head: Sequence[np.ndarray],
        mirrored: Sequence[np.ndarray],
        whole: Sequence[np.ndarray],
    ) -> Randomised:
        """From the rows' values [P] under the trained weights, and under those of RANDOM: of `head` and
        `mirrored` there may be fewer rows."""
        heads = np.concatenate([correlations(trained[: len(one)], one) for one in (head, mirrored)])
        sizes = ([np.abs(one) for one in values] for values in (trained, whole))
        return cls(_mean(heads), _mean(correlations(*sizes)), len(trained))

    @property
    def largest(self) -> float | None:
        known = [one for one in (self.head, self.whole) if one is not None]
        return max(known) if known else None

    @property
    def passed(self) -> bool:
        """False too where nothing could be compared."""
        return self.largest is not None and self.largest < MOST_CORRELATION


def randomisation_test(
    network: nn.Module, trained: Sequence[np.ndarray], explain: Explain, few: int
) -> Randomised:
    """`trained`: the rows' values under the network's own weights. `explain(other, n)` explains the first n
    of the same rows, for the same outputs, by another network. The head's part takes the first `few` rows: a
    head and its mirror image differ in sign alone, so that few rows tell."""
    counts = (few, few, len(trained))
    found = [explain(randomise(network, *one), count) for one, count in zip(RANDOM, counts, strict=True)]
    return Randomised.of(trained, *map(values_of, found))


def _mean(found: np.ndarray) -> float | None:
    return round(float(found.mean()), 4) if len(found) else None


def randomise(network: nn.Module, part: str, mirrored: bool = False) -> nn.Module:
    """A copy whose child `part` ("": the network) has random parameters; it shares the others with `network`.

    Each parameter is normal, with the mean and the deviation that it had, so that outputs stay of their size;
    `mirrored`: on the mean's other side.
    """
    made = deepcopy(network.get_submodule(part))
    generator, sign = torch.Generator().manual_seed(_SEED), -1 if mirrored else 1
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.is_floating_point():
                mean, deviation = parameter.float().mean(), parameter.float().std(correction=0)
                drawn = torch.empty(parameter.shape).normal_(generator=generator)
                parameter.copy_(sign * drawn.to(parameter.device) * deviation + mean)
    if not part:
        return made
    whole = copy(network)
    whole._modules = {**network._modules, part: made}
    return whole


def correlations(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> np.ndarray:
    """Spearman's rank correlation of the values [P] of each row that has parts enough and values that differ:
    float64 [at most N]."""
    found = []
    for one, other in zip(first, second, strict=True):
        ranked = _centred_ranks(one), _centred_ranks(other)
        lengths = [float(np.linalg.norm(ranks)) for ranks in ranked]
        if len(one) >= _FEWEST_PARTS and all(lengths):
            found.append(float(ranked[0] @ ranked[1]) / (lengths[0] * lengths[1]))
    return np.array(found, np.float64)


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from their mean; equal values share the mean of their ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(ranks[places] - (len(values) + 1) / 2)
