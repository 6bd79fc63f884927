"""How each kind of input is explained: follows from a body's `preprocessing`, the same for every family.

Integrated Gradients (Sundararajan et al. 2017, arXiv:1703.01365), computed by Captum, go from an input that
says nothing, the baseline, to the row: of tokens every token of the text becomes padding, and the path runs
through the embeddings; pixels become their mean, and so do the bands or samples of a sound.

Legend: B rows, T tokens or frames, S steps of the path.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from retrainer.attribution.captum import gradients
from retrainer.errors import ModelError

# The tensor of a batch that is explained.
KEYS = {"tokens": "input_ids", "pixels": "pixels", "audio": "audio"}
# Points of the path of all rows that go through the network at once: of images by their bytes.
_AT_ONCE = 128
_BYTES_AT_ONCE = 4 << 20

Output = Callable[[dict[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Path:
    """From `baseline` to `values`, both [B, …], in `steps` points. `layer`: the embedding of tokens."""

    values: Tensor
    baseline: Tensor
    layer: nn.Module | None
    steps: int

    @property
    def rows_at_once(self) -> int:
        return max(1, self.points_at_once // self.steps)

    @property
    def points_at_once(self) -> int:
        if self.layer is not None:
            return _AT_ONCE
        size = self.values[:1].numel() * self.values.element_size()
        return min(_AT_ONCE, max(4, _BYTES_AT_ONCE // max(1, size)))


@dataclass(frozen=True)
class Shares:
    """float64 on the CPU: `values` [B, T] of tokens and frames, [B, H, W] of pixels; outputs [B] at the row
    and at the baseline. Values of a row add up to the difference of the two, but for the integral's error.
    """

    values: Tensor
    output: Tensor
    baseline: Tensor


def path_of(kind: str, body: Any, batch: dict[str, Tensor], words: Tensor | None, steps: int) -> Path:
    """`words`: bool [B, T], the tokens of the texts themselves. Raises UserError where the network has no
    embedding of tokens."""
    values = batch[KEYS[kind]]
    if kind != "tokens":
        return Path(values, torch.zeros_like(values), None, steps)
    assert words is not None
    padding = torch.full_like(values, int(body.preprocessing["pad_id"]))
    return Path(values, torch.where(words, padding, values), embedding(body.module), steps)


def embedding(module: nn.Module) -> nn.Module:
    """The layer that makes vectors of token ids. Raises UserError where there is none."""
    found = getattr(module, "get_input_embeddings", lambda: None)()
    if found is None:
        found = next((part for part in module.modules() if isinstance(part, nn.Embedding)), None)
    if not isinstance(found, nn.Module):
        raise ModelError("no attributions: this family's network has no embedding layer for its tokens")
    return found


def shares(path: Path, batch: dict[str, Tensor], kind: str, output: Output, device: torch.device) -> Shares:
    """The attributions of one group of rows. `output` makes one number of each row of a batch."""
    key = KEYS[kind]
    others = {name: tensor for name, tensor in batch.items() if name != key}

    def forward(values: Tensor, *rest: Tensor) -> Tensor:
        return output({key: values, **dict(zip(others, rest, strict=True))})

    with _exact(device):
        found = gradients(forward, path, tuple(others.values()))
        with torch.no_grad():
            ends = [
                forward(values, *others.values()).double().cpu() for values in (path.values, path.baseline)
            ]
    # Of vectors and bands the sum; of an image the channels.
    found = found.double().cpu()
    if kind == "pixels":
        found = found.sum(1)
    elif found.dim() == 3:
        found = found.sum(2)
    return Shares(found, *ends)


def _exact(device: torch.device) -> AbstractContextManager[Any]:
    """On a GPU without cuDNN: its recurrent layers have no gradient outside of training, and it rounds."""
    return torch.backends.cudnn.flags(enabled=False) if device.type == "cuda" else nullcontext()
