"""Packing (`training.packing`): the texts of a step stand one behind the other in one row, without padding.

Positions begin anew with each text, and attention stays within it, so a text's states are those that it has
by itself (Krell et al. 2021, arXiv:2107.02027). Everything but attention is computed of real tokens alone.
On a GPU attention reads the row as it is, by the kernel for texts of unequal length (Dao 2023,
arXiv:2307.08691); elsewhere each text is padded for attention, the smallest part of the work.

Legend: B texts, T tokens of the longest, N tokens of all, H heads, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from retrainer.errors import SettingError
from retrainer.messages import logger
from retrainer.models._network import Batch, Body
from retrainer.tasks._device import send

_LOG = logger("train")

_ATTENTION = "retrainer_packed"
_LARGEST_DIFFERENCE = 1e-5
_WIDEST_HEAD = 256


@dataclass(frozen=True)
class Packing:
    """Where the tokens of one step stand, on the device but for `longest`."""

    at: Tensor  # int64 [N], in the flattened padded batch
    ends: Tensor  # int32 [B + 1], of the texts in the row, from 0
    mask: Tensor  # bool [B, T]
    longest: int

    @classmethod
    def of(cls, lengths: Tensor, width: int, device: torch.device) -> Packing:
        """`lengths` [B] are in host memory: sizes follow from them. The padded batch is `width` wide."""
        tokens = lengths.numpy()
        mask = np.arange(width) < tokens[:, None]
        ends = np.concatenate([[0], tokens.cumsum()]).astype(np.int32)
        at, ends, mask = (send(torch.from_numpy(part), device) for part in (np.flatnonzero(mask), ends, mask))
        return cls(at, ends, mask, int(tokens.max()))

    def pack(self, padded: Tensor) -> Tensor:
        """[B, T, …] → [N, …]"""
        return padded.flatten(0, 1).index_select(0, self.at)

    def pad(self, packed: Tensor) -> Tensor:
        """[N, …] → [B, T, …], zeros where there is no token."""
        padded = packed.new_zeros(self.mask.numel(), *packed.shape[1:])
        return padded.index_copy(0, self.at, packed).unflatten(0, self.mask.shape)


# Of the step that is computed, if it is packed: attention layers are given no more than their own tensors.
# Kept until the next forward pass: gradient checkpointing runs a block again in the backward pass.
_current: Packing | None = None


@contextmanager
def packed(body: Body, probe: Batch, lengths: Tensor) -> Iterator[None]:
    """Inside, `body.module` packs a batch that tells its `lengths`. Outputs are padded as ever.

    Raises UserError where its answer to `probe`, a padded batch of texts of such `lengths`, would be another
    one.
    """
    module: Any = body.module
    before = _replace_attention(module)
    module.forward = partial(_forward, module, _first_position(module))
    try:
        _require_same(body, probe, lengths)
        yield
    finally:
        del module.forward  # the class's own is seen again
        module.set_attn_implementation(before)


def _replace_attention(module: Any) -> str:
    """Puts ours in the place of the module's attention, whose name it returns."""
    if not hasattr(module, "set_attn_implementation"):
        raise _unfit("its attention cannot be replaced")
    from transformers import AttentionInterface, AttentionMaskInterface

    from retrainer.models._hugging_face import quiet

    AttentionInterface.register(_ATTENTION, _attention)
    AttentionMaskInterface.register(_ATTENTION, _mask)
    before = str(module.config._attn_implementation)
    with quiet():
        module.set_attn_implementation(_ATTENTION)
    if module.config._attn_implementation != _ATTENTION:
        raise _unfit("its attention cannot be replaced")
    return before


def _first_position(module: nn.Module) -> int:
    """RoBERTa and its kin count positions from behind the padding id."""
    for name, part in module.named_modules():
        if name.endswith("position_embeddings") and isinstance(part, nn.Embedding):
            return 0 if part.padding_idx is None else part.padding_idx + 1
    return 0


def _forward(module: nn.Module, first_position: int, lengths: Tensor | None = None, **batch: Any) -> Any:
    """The module's forward pass; packed where the batch tells its `lengths`."""
    global _current
    ids = batch["input_ids"]
    plain = partial(type(module).forward, module)
    if lengths is None:
        _current = None
        return plain(**batch)
    packing = _current = Packing.of(lengths, ids.shape[1], ids.device)
    places = torch.arange(first_position, first_position + ids.shape[1], device=ids.device)
    row: dict[str, Tensor] = {n: batch[n] for n in ("input_ids", "token_type_ids") if n in batch}
    if getattr(module.config, "type_vocab_size", 0):  # else some read them off a table as long as one text
        row.setdefault("token_type_ids", torch.zeros_like(ids))
    row["position_ids"] = places.expand(ids.shape)
    made = plain(**{name: packing.pack(tensor)[None] for name, tensor in row.items()})
    made.last_hidden_state = packing.pad(made.last_hidden_state[0])
    return made


def _mask(*args: Any, **kwargs: Any) -> Any:
    """Of a packed row none: `_attention` knows where each text ends."""
    from transformers.masking_utils import sdpa_mask

    return None if _current is not None else sdpa_mask(*args, **kwargs)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """transformers' interface: [1, H, N, D / H] each (fewer heads of keys and values, where they are shared)
    → [1, N, H, D / H].
    """
    packing = _current
    if packing is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward as plain

        options = {"dropout": dropout, "scaling": scaling, "is_causal": is_causal, **more}
        made: tuple[Tensor, None] = plain(module, query, key, value, attention_mask, **options)
        return made
    if (more.get("sliding_window") or packing.longest) < packing.longest:
        raise _unfit("its attention sees a window, smaller than a text")
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    groups = query.shape[1] // key.shape[1]
    row = [part[0].transpose(0, 1) for part in (query, key, value)]  # [N, H, D / H]
    row[1:] = [part.repeat_interleave(groups, 1) if groups > 1 else part for part in row[1:]]
    attend = _attend_to_row if _reads_rows(query) else _attend_to_padded
    return attend(packing, row, dropout, causal, scaling)[None], None


def _reads_rows(query: Tensor) -> bool:
    """Whether PyTorch's kernel for texts of unequal length takes this."""
    half, width = query.dtype in (torch.bfloat16, torch.float16), query.shape[-1]
    return query.is_cuda and half and width % 8 == 0 and width <= _WIDEST_HEAD and _kernel_agrees()


@cache
def _kernel_agrees() -> bool:
    """Whether that kernel is there, and gives what padded attention gives: it has no public name."""
    device, lengths = torch.device("cuda"), torch.tensor([7, 12, 5])
    packing = Packing.of(lengths, int(lengths.max()), device)
    draws = torch.Generator().manual_seed(0)
    row = [torch.randn(24, 2, 64, generator=draws).to(device, torch.bfloat16) for _ in range(3)]
    found = []
    try:
        for attend in (_attend_to_row, _attend_to_padded):
            inputs = [part.clone().requires_grad_() for part in row]
            made = attend(packing, inputs, 0.0, False, None)
            found.append([made, *torch.autograd.grad(made.float().square().sum(), inputs)])
    except (AttributeError, RuntimeError, TypeError) as error:
        _LOG.info("packed texts are padded for attention: %s", " ".join(str(error).split())[:200])
        return False
    agrees = all(torch.allclose(one, other, rtol=0.05, atol=0.05) for one, other in zip(*found, strict=True))
    if not agrees:
        _LOG.warning("packed texts are padded for attention: PyTorch's kernel gives other numbers here")
    return agrees


def _attend_to_row(
    packing: Packing, row: list[Tensor], dropout: float, causal: bool, scale: float | None
) -> Tensor:
    """The operation behind `torch.nn.attention.varlen`, which itself takes no dropout. Deterministic where
    PyTorch's deterministic mode is on.
    """
    ends, longest = packing.ends, packing.longest
    made: Tensor = torch.ops.aten._flash_attention_forward(
        *row, ends, ends, longest, longest, dropout, causal, False, scale=scale
    )[0]
    return made


def _attend_to_padded(
    packing: Packing, row: list[Tensor], dropout: float, causal: bool, scale: float | None
) -> Tensor:
    query, key, value = (packing.pad(part).transpose(1, 2) for part in row)
    # Behind a text there is only padding, to which no earlier token of it looks: one mask is enough.
    mask = None if causal else packing.mask[:, None, None, :]
    made = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scale
    )
    return packing.pack(made.transpose(1, 2))


def _require_same(body: Body, probe: Batch, lengths: Tensor) -> None:
    """Raises UserError where a packed text's features differ from those of the text by itself."""
    mode = body.module.training
    body.module.eval()
    try:
        with torch.no_grad():
            alone = body.features(body.module, probe)
            together = body.features(body.module, probe | {"lengths": lengths})
    except SettingError:
        raise
    except Exception as error:  # a foreign architecture fails in its own ways
        raise _unfit(f"it does not take a row of several texts ({type(error).__name__})") from None
    finally:
        body.module.train(mode)
    if not (together - alone).norm() <= _LARGEST_DIFFERENCE * alone.norm():
        raise _unfit("a text's features would depend on the texts beside it")


def _unfit(why: str) -> SettingError:
    return SettingError(f"training.packing: not with this backbone: {why}; leave it out")


def tell_saving(batches: list[np.ndarray], lengths: np.ndarray) -> None:
    """One line: the tokens of an epoch of these batches, and how many they would be with padding."""
    tokens = sum(int(lengths[rows].sum()) for rows in batches)
    padded = sum(len(rows) * int(lengths[rows].max()) for rows in batches)
    share = 1 - tokens / max(1, padded)
    _LOG.info(
        "training.packing: an epoch has %s tokens, with padding %s (%.1f%% fewer)",
        *(f"{count:,}" for count in (tokens, padded)),
        100 * share,
    )
