"""Which of a file's tensors is which of a network's: by their names, else by their shapes and order.

By order only what cannot be otherwise is accepted: as many tensors, at each place the same shape and kind
(weight, bias, running mean, …), and of equal layers in one part of the network (query, key and value of an
attention) none that could have changed places.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from retrainer.errors import ModelError

# Tensor's name → its shape, in the order of the file or network.
Shapes = Mapping[str, tuple[int, ...]]

# BatchNorm's step counter, which nothing here reads.
_COUNTER = "num_batches_tracked"
# What other ports call the same. A kernel of TensorFlow is not among them: its axes stand the other way.
_KINDS = {"gamma": "weight", "beta": "bias"}
_KINDS |= {"moving_mean": "running_mean", "moving_variance": "running_var"}
_MOST_HEAD_TENSORS = 4


@dataclass(frozen=True)
class Match:
    """`pairs`: the network's name → the file's. `how` is for people; `unused`: the file's other ones."""

    pairs: Mapping[str, str]
    how: str
    unused: Sequence[str]


def match(own: Shapes, given: Shapes) -> Match:
    """Raises ModelError with the reason where no match is certain."""
    needed = {name: shape for name, shape in own.items() if not name.endswith(_COUNTER)}
    theirs = {name: shape for name, shape in given.items() if not name.endswith(_COUNTER)}
    pairs = _by_name(needed, theirs)
    how = "by name"
    if pairs is None:
        pairs, how = _by_order(needed, theirs), "by shape and order"
    counters = [name for name in own if name.endswith(_COUNTER) and name in given]
    used = set(pairs.values())
    return Match(pairs | {name: name for name in counters}, how, [n for n in theirs if n not in used])


def _by_name(own: Shapes, given: Shapes) -> dict[str, str] | None:
    """None where the names are others. A common beginning, as `state_dict.module.`, is cut off."""
    fitting = [start for start in _beginnings(given) if all(start + name in given for name in own)]
    if not fitting:
        return None
    if len(fitting) > 1:
        raise ModelError(
            f"the file holds {len(fitting)} sets of such tensors, '{fitting[0]}…' and '{fitting[1]}…'; save"
            " the one that is meant alone, by torch.save(…, 'mine.pth')"
        )
    pairs = {name: fitting[0] + name for name in own}
    _refuse_shapes(pairs, own, given)
    return pairs


def _beginnings(names: Shapes) -> list[str]:
    """The empty one, and every common beginning of up to four words."""
    parts = [name.split(".") for name in names]
    found = {".".join([*words[:depth], ""]) for words in parts for depth in range(1, min(len(words), 5))}
    return ["", *sorted(found)]


def _refuse_shapes(pairs: Mapping[str, str], own: Shapes, given: Shapes) -> None:
    for name, theirs in pairs.items():
        if own[name] != given[theirs]:
            raise ModelError(
                f"{theirs} has the shape {_shape(given[theirs])} and the network's {name}"
                f" {_shape(own[name])}: another architecture; set backbone.name to the one of the file"
            )


def _by_order(own: Shapes, given: Shapes) -> dict[str, str]:
    names, theirs = list(own), list(given)
    if not 0 <= len(theirs) - len(names) <= _MOST_HEAD_TENSORS:
        raise ModelError(
            f"its names are others than the network's (as {theirs[0] if theirs else 'none'}, not {names[0]}),"
            f" and it holds {len(theirs)} tensors where the network has {len(names)}, so that their order"
            " says nothing; save the state dict of the body, or set backbone.name to its architecture"
        )
    pairs = dict(zip(names, theirs, strict=False))
    for name, other in pairs.items():
        if own[name] != given[other] or _kind(name) != _kind(other):
            raise ModelError(
                f"neither the names fit nor the order: at the place of {name} {_shape(own[name])} stands"
                f" {other} {_shape(given[other])}; set backbone.name to the file's architecture, or rename"
                " its tensors"
            )
    _refuse_exchangeable(pairs, own)
    return pairs


def _refuse_exchangeable(pairs: Mapping[str, str], own: Shapes) -> None:
    """Raises ModelError for two equal layers of one part whose order the names do not confirm."""
    for one, other in _equal_neighbours(pairs, own):
        first, second = (_layer(pairs[name]) for name in (one, other))
        ours = _layer(one), _layer(other)
        named = [_last(layer) for layer in ours] == [_last(first), _last(second)]
        if not named and not (_rising(*ours) and _rising(first, second)):
            raise ModelError(
                f"the names do not fit, and by order {first} and {second} could as well have changed places"
                f" (the network's {ours[0]} and {ours[1]} have equal shapes); rename the file's tensors to"
                " the network's names"
            )


def _equal_neighbours(pairs: Mapping[str, str], own: Shapes) -> Iterator[tuple[str, str]]:
    """The first tensors of each two layers that follow each other among the equal ones of one part."""
    layers: dict[str, list[str]] = {}
    for name in pairs:
        layers.setdefault(_layer(name), []).append(name)
    alike: dict[tuple[object, ...], list[str]] = {}
    for layer, names in layers.items():
        form = tuple((_kind(name), own[name]) for name in names)
        alike.setdefault((_layer(layer), form), []).append(names[0])
    for group in alike.values():
        yield from pairwise(group)


def _rising(one: str, other: str) -> bool:
    """Whether the two differ by numbers that rise, as bn1 and bn2."""
    numbers = [[int(digits) for digits in re.findall(r"\d+", name)] for name in (one, other)]
    same = re.sub(r"\d+", "#", one) == re.sub(r"\d+", "#", other)
    return same and numbers[0] < numbers[1]


def _layer(name: str) -> str:
    """What a name stands in: of a tensor its layer, of a layer its part of the network."""
    return name.rpartition(".")[0]


def _last(layer: str) -> str:
    return layer.rpartition(".")[2].lower()


def _kind(name: str) -> str:
    last = name.rpartition(".")[2]
    return _KINDS.get(last, last)


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "(a number)"
