"""What a model family's file returns, and the network that every task trains.

Legend: B batch, D feature width. A batch is a dict of tensors, made by the task from the
body's `preprocessing`: tokens give `input_ids` and `attention_mask` [B, T] (and `token_type_ids` [B, T]
where the tokenizer knows pairs; on a GPU no mask where no row is padded); pixels give `pixels` [B, C, H, W],
normalised float32.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from retrainer.models._blocks import repeated_blocks

Batch = dict[str, Tensor]


@dataclass
class Body:
    """The part of a network below the head.

    `config` is JSON and all that the family's `restore` needs to build `module` again without weights.
    `preprocessing` is JSON and says how raw input becomes a batch:
      {"kind": "tokens", "tokenizer": "tokenizer.json", "max_length": int, "pad_id": int, "pairs": bool}
      {"kind": "pixels", "size": [H, W], "channels": 1 or 3, "mean": [C], "std": [C]}
    `assets` are files kept beside the weights, by name.
    `blocks` names the blocks of `module` in their order; a family whose networks hide them gives its own.

    Two fields for tasks that need more than one vector of a row; None where a family has no such thing:
    `maps` gives feature maps of several scales, [B, C_i, H_i, W_i] with C_i from `map_widths` and H / H_i
    from `map_strides`, finest first, and `cut` names the layers behind the last one, which were taken out;
    `generate(module, batch, options)` gives token ids [B, T] of a text
    written by the network.

    `begin(module, batch)` sets, before a training from scratch, what the network takes from training rows as
    they are, such as filters that whiten them.

    `opaque`: what computes is no tree of PyTorch's layers, so that nothing can be put in their place.
    """

    module: nn.Module
    features: Callable[[nn.Module, Batch], Any]
    width: int
    config: dict[str, Any]
    preprocessing: dict[str, Any]
    assets: dict[str, bytes] = field(default_factory=dict)
    blocks: Callable[[nn.Module], list[str]] = repeated_blocks
    maps: Callable[[nn.Module, Batch], list[Tensor]] | None = None
    map_widths: tuple[int, ...] = ()
    map_strides: tuple[int, ...] = ()
    cut: tuple[str, ...] = ()
    generate: Callable[[nn.Module, Batch, dict[str, Any]], Tensor] | None = None
    begin: Callable[[nn.Module, Batch], None] | None = None
    opaque: bool = False


class Network(nn.Module):
    """A body and the task's head above it: `head(features, batch)` → what the task's `loss` takes."""

    def __init__(self, body: Body, head: nn.Module) -> None:
        super().__init__()
        self.description = body
        self.body = body.module
        self.head = head

    def features(self, batch: Batch) -> Any:
        """What the body makes of a batch: [B, D], or whatever else the task's head takes."""
        return self.description.features(self.body, batch)

    def forward(self, batch: Batch) -> Any:
        return self.head(self.features(batch), batch)


def exact(device: torch.device) -> AbstractContextManager[Any]:
    """Convolutions in float32 proper: cuDNN's default rounds to 10 bits, and a CPU would answer otherwise."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


def seeded(seed: int) -> torch.Generator:
    """A generator of its own, so that nothing else's draws move ours."""
    return torch.Generator().manual_seed(seed)
