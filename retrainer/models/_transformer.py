"""A pre-norm Transformer encoder–decoder (Vaswani et al. 2017, arXiv:1706.03762; norms before each part as in
Xiong et al. 2020, arXiv:2002.04745), one embedding for both languages and for the output.

Legend: B rows, S source tokens, T target tokens, D width, H heads, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Shape(NamedTuple):
    """What makes two networks exchangeable; a body's `config`."""

    vocabulary: int
    width: int
    heads: int
    layers: int
    decoder_layers: int
    feedforward: int
    max_length: int


class KeyValues(NamedTuple):
    """Of the tokens that attention looks at: [B, H, tokens, D / H] each."""

    keys: Tensor
    values: Tensor


class Attention(nn.Module):
    """Scaled dot-product attention over H heads, of a sequence to itself or to another."""

    def __init__(self, shape: Shape, to_itself: bool) -> None:
        super().__init__()
        self.heads = shape.heads
        self.to_itself = to_itself
        # One product for all that the same input goes into.
        self.inputs = nn.Linear(shape.width, (3 if to_itself else 1) * shape.width)
        self.memory = None if to_itself else nn.Linear(shape.width, 2 * shape.width)
        self.out = nn.Linear(shape.width, shape.width)

    def split(self, states: Tensor, parts: int) -> tuple[Tensor, ...]:
        """[B, T, parts · D] → so many of [B, H, T, D / H]."""
        rows, tokens, width = states.shape
        split = states.view(rows, tokens, parts, self.heads, width // (parts * self.heads))
        return split.permute(2, 0, 3, 1, 4).unbind(0)

    def remember(self, memory: Tensor) -> KeyValues:
        """Keys and values of the encoder's states [B, S, D]."""
        assert self.memory is not None
        return KeyValues(*self.split(self.memory(memory), 2))

    def forward(
        self, states: Tensor, past: KeyValues | None, mask: Tensor | None = None, causal: bool = False
    ) -> tuple[Tensor, KeyValues]:
        """States [B, T, D] → the same shape, and all keys and values that were looked at.

        `past` is what earlier tokens left, or the encoder's. `mask` [B, 1, 1, S] is False for padding.
        """
        if self.to_itself:
            queries, keys, values = self.split(self.inputs(states), 3)
            if past is not None:
                keys, values = torch.cat([past.keys, keys], 2), torch.cat([past.values, values], 2)
        else:
            assert past is not None
            (queries,), (keys, values) = self.split(self.inputs(states), 1), past
        mixed = _attend(queries, keys, values, mask, causal)
        return self.out(mixed.transpose(1, 2).flatten(2)), KeyValues(keys, values)


# Up to so many tokens times tokens, plain matrix products are quicker on a CPU than PyTorch's own kernel:
# 0.8 against 1.3 ms forth and back at 16 x 16, as quick at 128 x 128 (torch 2.13, 32 rows, 4 heads, 2 cores).
_SMALL = 128 * 128


def _attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """[B, H, T, D / H] → the same shape and format.

    In float32 on a CPU: its bfloat16 kernel's backward pass takes four times as long (torch 2.13, measured).
    """
    attend: Callable[..., Tensor] = functional.scaled_dot_product_attention
    if queries.device.type != "cpu":
        return attend(queries, keys, values, attn_mask=mask, is_causal=causal)
    if queries.shape[2] * keys.shape[2] <= _SMALL:
        attend = _attend_by_products
    with torch.autocast("cpu", enabled=False):
        mixed = attend(*map(_float, (queries, keys, values)), attn_mask=mask, is_causal=causal)
    return mixed.to(queries.dtype)


def _float(part: Tensor) -> Tensor:
    return part.to(torch.float32, memory_format=torch.contiguous_format)


def _attend_by_products(
    queries: Tensor, keys: Tensor, values: Tensor, attn_mask: Tensor | None, is_causal: bool
) -> Tensor:
    """What `scaled_dot_product_attention` computes, step by step; its arguments are that function's."""
    rows, heads, tokens, width = queries.shape
    if attn_mask is not None:
        hidden = torch.zeros(attn_mask.shape).masked_fill_(~attn_mask, -math.inf)
        hidden = hidden.expand(rows, heads, 1, -1).flatten(0, 1)
    else:
        hidden = torch.full((tokens, keys.shape[2]), -math.inf) if is_causal else torch.zeros(1, 1)
        hidden = hidden.triu_(1)
    queries, keys, values = (part.flatten(0, 1) for part in (queries, keys, values))
    scores = torch.baddbmm(hidden, queries, keys.transpose(1, 2), alpha=width**-0.5)
    return torch.bmm(scores.softmax(2), values).view(rows, heads, tokens, width)


class Layer(nn.Module):
    """Attention to itself, in a decoder also to the encoder's states, then two linear layers."""

    def __init__(self, shape: Shape, decodes: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(shape.width) for _ in range(3 if decodes else 2))
        self.attention = Attention(shape, to_itself=True)
        self.cross = Attention(shape, to_itself=False) if decodes else None
        self.widen = nn.Linear(shape.width, shape.feedforward)
        self.narrow = nn.Linear(shape.feedforward, shape.width)
        self.dropout = nn.Dropout(0.0)

    def forward(
        self,
        states: Tensor,
        mask: Tensor | None,
        memory: KeyValues | Tensor | None = None,
        past: KeyValues | None = None,
        causal: bool = False,
    ) -> tuple[Tensor, KeyValues]:
        """An encoder's `mask` is that of `states` itself, a decoder's that of `memory`: the encoder's states
        [B, S, D], or what `cross.remember` made of them.
        """
        own = mask if self.cross is None else None
        mixed, seen = self.attention(self.norms[0](states), past, own, causal)
        states = states + self.dropout(mixed)
        if self.cross is not None:
            if isinstance(memory, Tensor):
                memory = self.cross.remember(memory)
            mixed, _ = self.cross(self.norms[1](states), memory, mask)
            states = states + self.dropout(mixed)
        inner = functional.relu(self.widen(self.norms[-1](states)))
        return states + self.dropout(self.narrow(inner)), seen


class EncoderDecoder(nn.Module):
    """`forward`: source and target ids → logits of each next target token."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.encoder = nn.ModuleList(Layer(shape, decodes=False) for _ in range(shape.layers))
        self.decoder = nn.ModuleList(Layer(shape, decodes=True) for _ in range(shape.decoder_layers))
        self.encoded_norm = nn.LayerNorm(shape.width)
        self.decoded_norm = nn.LayerNorm(shape.width)
        self.dropout = nn.Dropout(0.0)
        self.register_buffer("positions", _sinusoids(shape.max_length, shape.width), persistent=False)
        nn.init.normal_(self.embedding.weight, std=shape.width**-0.5)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)

    def set_dropout(self, share: float) -> None:
        """Of what each attention and each pair of linear layers adds, and of the embeddings."""
        for part in self.modules():
            if isinstance(part, nn.Dropout):
                part.p = share

    def forward(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor) -> Tensor:
        """Ids [B, S], their mask [B, S] and ids [B, T] → logits [B, T, V]."""
        states, mask = self.encode(input_ids, attention_mask)
        decoded = self.embed(decoder_input_ids)
        for layer in self.decoder:
            decoded, _ = layer(decoded, mask, states, causal=True)
        return self.logits(decoded)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """Ids [B, S] → states [B, S, D], and the mask [B, 1, 1, S] where rows have padding."""
        mask = None if bool(attention_mask.all()) else attention_mask.bool()[:, None, None, :]
        states = self.embed(input_ids)
        for layer in self.encoder:
            states, _ = layer(states, mask)
        return self.encoded_norm(states), mask

    def embed(self, ids: Tensor, first: int = 0) -> Tensor:
        """Ids [B, T], the first of which stands at place `first`, → [B, T, D]."""
        places = self.positions[first : first + ids.shape[1]]
        return self.dropout(self.embedding(ids) * math.sqrt(self.shape.width) + places)

    def logits(self, decoded: Tensor) -> Tensor:
        """States [B, T, D] → [B, T, V], by the embedding's own weights (Press and Wolf, arXiv:1608.05859)."""
        return functional.linear(self.decoded_norm(decoded), self.embedding.weight)


def _sinusoids(places: int, width: int) -> Tensor:
    """float32 [places, D]: sines and cosines of wavelengths from 2π to 10,000 · 2π."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(places)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
