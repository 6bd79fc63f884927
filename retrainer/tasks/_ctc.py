"""Connectionist temporal classification: texts from one guess a frame (Graves et al. 2006, ICML).

Output 0 is the blank, output i the i-th unit of `units`, single characters. A text is what remains of the
frames' outputs once neighbours that are equal have become one, and blanks have gone.

Legend: B rows of a batch, T frames, D feature width, U units, L the longest target.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from retrainer.tasks._heads import LinearHead

# Units that the search considers in one frame, of thousands that some scripts have.
_LIKELIEST = 24
_NEVER = -math.inf


class CtcHead(LinearHead):
    """(states [B, T, D], frames [B]) → (logits [B, T, 1 + U], frames [B])."""

    def forward(self, features: Any, batch: Any = None) -> Any:
        states, frames = features
        return super().forward(states, batch), frames


def ctc_loss(logits: Tensor, frames: Tensor, targets: Tensor) -> Tensor:
    """Negative log probability of each row's text, a unit: [B]. `targets` [B, L] is filled up with 0.

    A row with fewer frames than its text needs (a sound that was sped up, say) has the loss 0.
    """
    lengths = (targets > 0).sum(1)
    # On the CPU, since the one kernel for GPUs that takes all of this is not deterministic.
    chances = logits.float().log_softmax(2).transpose(0, 1).cpu()
    sums = functional.ctc_loss(
        chances, targets.cpu(), frames.cpu(), lengths.cpu(), reduction="none", zero_infinity=True
    )
    return sums.to(logits.device) / lengths.clamp(min=1)


def greedy(logits: Tensor, frames: Tensor, units: Sequence[str]) -> list[str]:
    """The likeliest output of each frame, read as a text."""
    texts = []
    for best, count in zip(logits.argmax(2).cpu(), frames.tolist(), strict=True):
        outputs = best[:count].unique_consecutive().tolist()
        texts.append("".join(units[output - 1] for output in outputs if output))
    return texts


class Lexicon:
    """Words that a text may be made of: which units may follow a beginning of one."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = {word for word in words if word}
        self.after: dict[str, set[str]] = defaultdict(set)
        for word in self.words:
            for place, unit in enumerate(word):
                self.after[word[:place]].add(unit)
        self.starts = self.after[""]

    def allows(self, text: str, unit: str) -> bool:
        """Whether `text`, itself allowed, may go on with `unit`."""
        begun = text.rpartition(" ")[2]
        return unit in self.after.get(begun, ()) or (unit == " " and begun in self.words)

    def complete(self, text: str) -> bool:
        return not text or text.rpartition(" ")[2] in self.words


def beam_search(
    logits: Tensor, frames: Tensor, units: Sequence[str], beams: int, lexicon: Lexicon | None = None
) -> list[str]:
    """The text whose ways through the frames, of those that the search kept, are likeliest together.

    Prefix search (Graves 2012; Hannun et al. 2014, arXiv:1408.2873) without a language model; with a lexicon
    texts are made of its words alone, and one that no word fits is empty.
    """
    chances = logits.float().log_softmax(2).cpu().numpy()
    return [
        _search(row[:count], units, beams, lexicon)
        for row, count in zip(chances, frames.tolist(), strict=True)
    ]


def _search(chances: np.ndarray, units: Sequence[str], beams: int, lexicon: Lexicon | None) -> str:
    """`chances` is log probabilities [T, 1 + U]. Of each text: those of its ways that end in a blank, and
    of those that end in its last unit.
    """
    index = {unit: place for place, unit in enumerate(units, 1)}
    kept: dict[str, tuple[float, float]] = {"": (0.0, _NEVER)}
    for frame in chances.tolist():
        likeliest = sorted(range(1, len(frame)), key=frame.__getitem__, reverse=True)
        likeliest = likeliest if lexicon else likeliest[:_LIKELIEST]
        found: dict[str, list[float]] = defaultdict(lambda: [_NEVER, _NEVER])
        for text, (blank, unit) in kept.items():
            either = _add(blank, unit)
            ways = found[text]
            ways[0] = _add(ways[0], either + frame[0])
            if text:
                ways[1] = _add(ways[1], unit + frame[index[text[-1]]])
            for place in likeliest:
                new = units[place - 1]
                if lexicon and not lexicon.allows(text, new):
                    continue
                # The same unit again needs a blank between.
                before = blank if text and text[-1] == new else either
                longer = found[text + new]
                longer[1] = _add(longer[1], before + frame[place])
        best = sorted(found.items(), key=lambda item: -_add(*item[1]))[:beams]
        kept = {text: (ways[0], ways[1]) for text, ways in best}
    finished = [text for text in kept if lexicon is None or lexicon.complete(text)]
    return max(finished, key=lambda text: _add(*kept[text]), default="")


def _add(one: float, other: float) -> float:
    """log(exp(one) + exp(other))."""
    high, low = (one, other) if one >= other else (other, one)
    return high if low == _NEVER else high + math.log1p(math.exp(low - high))


def unit_ids(texts: Sequence[str | None], units: Sequence[str]) -> list[np.ndarray]:
    """int64 [units of the text] each; what is no unit is left out, as nothing can be trained for it."""
    index = {unit: place for place, unit in enumerate(units, 1)}
    return [np.array([index[unit] for unit in plain(text) if unit in index], np.int64) for text in texts]


def plain(text: str | None) -> str:
    """One space for any white space, none at the ends: what is no sound, a network is not asked for."""
    return " ".join((text or "").split())


def frames_needed(ids: np.ndarray) -> int:
    """Of a target: one a unit, and a blank between two that are equal."""
    return len(ids) + int((ids[1:] == ids[:-1]).sum())


def padded(rows: Sequence[np.ndarray], fill: int) -> Tensor:
    """int64 [B, L], at least one wide."""
    array: np.ndarray = np.full((len(rows), max([1, *map(len, rows)])), fill, np.int64)
    for place, row in enumerate(rows):
        array[place, : len(row)] = row
    return torch.from_numpy(array)
