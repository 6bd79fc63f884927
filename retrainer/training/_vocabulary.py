"""Trains the words that the data has, not the 30,000 or 250,000 that a tokenizer knows.

A word that never comes has no gradient: Adam leaves it as it is, yet clears its gradient, measures its norm
and keeps its two moments in every step. For short texts that is a fifth of the time of a small encoder
(measured), and most of the memory of a multilingual one. Legend: B rows, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from retrainer.tasks._protocol import Encoded, Task

_ROWS_AT_ONCE = 1024


class WordsInUse(nn.Module):
    """Some rows of an embedding table, looked up by their numbers in the whole one."""

    def __init__(self, table: nn.Embedding, used: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(table.weight.detach()[used])
        # A number that is not in use points beyond the rows: it fails and means no other word.
        places = torch.full((table.num_embeddings,), len(used), device=used.device)
        places[used] = torch.arange(len(used), device=used.device)
        self.register_buffer("places", places, persistent=False)
        padding = table.padding_idx
        self.padding_idx = None if padding is None or padding not in used else int(places[padding])

    def forward(self, ids: Tensor) -> Tensor:
        """Ids [B, T] → [B, T, D]."""
        return functional.embedding(self.places[ids], self.weight, self.padding_idx)


@contextmanager
def words_in_use(body: nn.Module, task: Task, splits: list[Encoded]) -> Iterator[None]:
    """Inside, `body` holds only the words of `splits`; afterwards all of them, those trained.

    Nothing else changes but the weight decay, which a word that never comes is spared. A body without a
    plain table of words of its own is left alone.
    """
    found = _word_table(body)
    used = None if found is None else _used(task, splits)
    if found is None or used is None or 2 * len(used) > found[1].num_embeddings:
        yield
        return
    name, table = found
    used = used.to(table.weight.device)
    small = WordsInUse(table, used)
    body.set_submodule(name, small)
    try:
        yield
    finally:
        with torch.no_grad():
            table.weight[used] = small.weight
        body.set_submodule(name, table)


def _word_table(body: nn.Module) -> tuple[str, nn.Embedding] | None:
    """Name and table of the input words, by the method that Hugging Face encoders have for it."""
    ask = getattr(body, "get_input_embeddings", None)
    try:
        table = ask() if ask is not None else None
    except NotImplementedError:  # of a network that hears, such as wav2vec 2.0: it has no words
        return None
    # A subclass may scale or cut what it looks up: only the plain table is known to be no more than its rows.
    if table is None or type(table) is not nn.Embedding or table.max_norm or not table.weight.requires_grad:
        return None
    holders = [n for n, p in body.named_parameters(remove_duplicate=False) if p is table.weight]
    return (holders[0].removesuffix(".weight"), table) if len(holders) == 1 else None


def _used(task: Task, splits: list[Encoded]) -> Tensor | None:
    """Every token id of the splits, rising; None where rows are not tokens."""
    found: list[Tensor] = []
    for encoded in splits:
        for start in range(0, len(encoded), _ROWS_AT_ONCE):
            rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(encoded)))
            ids = task.batch(encoded, rows, None).get("input_ids")
            if ids is None:
                return None
            found.append(ids.unique())
    return torch.cat(found).unique() if found else None
