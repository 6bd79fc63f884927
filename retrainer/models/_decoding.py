"""Greedy and beam search over any decoder that remembers what it was fed: one loop for all families.

A row's tokens do not depend on the rows beside it, but for rounding: it ends by its own hypotheses alone.
Legend: B rows still searched, K beams, R = B · K hypotheses, V vocabulary, L most tokens of an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Decoder(Protocol):
    """A decoder with the keys and values of all tokens so far (a KV cache)."""

    def next(self, tokens: Tensor) -> Tensor:
        """Further tokens [R, n] of each hypothesis → logits of the one after them [R, V]."""

    def select(self, hypotheses: Tensor) -> None:
        """Goes on with these of the R hypotheses, in this order: int64 [new R]."""


@dataclass(frozen=True)
class Search:
    """`start` is fed before the first answer token, `end` closes an answer, `never` is not chosen."""

    start: tuple[int, ...]
    end: int
    never: tuple[int, ...] = ()
    beams: int = 1
    length_penalty: float = 1.0
    max_length: int = 128

    def score(self, log_probability: Tensor, length: int) -> Tensor:
        """By which finished answers compare: a penalty above 0 favours long ones, as the sum is negative."""
        return log_probability / length**self.length_penalty


class _Hypotheses:
    """The K best unfinished and the K best finished answers of every row that is still searched."""

    def __init__(self, rows: int, search: Search, device: torch.device) -> None:
        beams, length = search.beams, search.max_length
        self.search = search
        self.rows = torch.arange(rows, device=device)  # [B]: which rows of the batch these are
        self.running = torch.full((rows, beams), -torch.inf, device=device)
        self.running[:, 0] = 0.0  # at first all K are the same one
        self.tokens = torch.full((rows, beams, length), search.end, device=device)
        self.scores = torch.full((rows, beams), -torch.inf, device=device)
        self.finished = self.tokens.clone()

    def extend(self, logits: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Appends the best tokens, the `length`-th; returns for each hypothesis that goes on which one it
        was [B, K], and its new token [B, K]."""
        beams, end = self.search.beams, self.search.end
        vocabulary = logits.shape[1]
        totals = self.running.flatten()[:, None] + logits.float().log_softmax(dim=1)
        if self.search.never:
            totals[:, list(self.search.never)] = -torch.inf
        # Of 2K at least K do not end: each hypothesis has one token that ends.
        best, at = totals.view(len(self.rows), beams * vocabulary).topk(2 * beams)
        before, token = at // vocabulary, at % vocabulary
        tokens = _pick(self.tokens, before)
        tokens[:, :, length - 1] = token
        ends = token == end
        ended = self.search.score(best, length).masked_fill(~ends, -torch.inf)
        self.finish(ended[:, :beams], tokens[:, :beams])
        self.running, chosen = best.masked_fill(ends, -torch.inf).topk(beams)
        self.tokens = _pick(tokens, chosen)
        return before.gather(1, chosen), token.gather(1, chosen)

    def finish(self, scores: Tensor, tokens: Tensor) -> None:
        """Keeps the K best of those finished before and these: [B, K] and [B, K, L]."""
        self.scores, order = torch.cat([self.scores, scores], 1).topk(self.search.beams)
        self.finished = _pick(torch.cat([self.finished, tokens], 1), order)

    def over(self, length: int) -> Tensor:
        """bool [B]: rows whose unfinished answers cannot become better than all finished ones any more.

        They are measured at their present length, as by transformers' `early_stopping=False`. One beam ends
        with its first finished answer.
        """
        worst = self.scores[:, -1]
        if self.search.beams == 1:
            return worst > -torch.inf
        return worst >= self.search.score(self.running[:, 0], length)

    def keep(self, going: Tensor) -> None:
        for name in ("rows", "running", "tokens", "scores", "finished"):
            setattr(self, name, getattr(self, name)[going])


@torch.no_grad()
def search(decoder: Decoder, rows: int, how: Search, device: torch.device) -> Tensor:
    """The best answer of each row: token ids [B, L], filled up with `end`.

    `decoder` holds K hypotheses of each row, one row's beside each other.
    """
    answers = torch.full((rows, how.max_length), how.end, device=device)
    found = _Hypotheses(rows, how, device)
    tokens = torch.tensor(how.start, device=device).expand(rows * how.beams, -1)
    for length in range(1, how.max_length + 1):
        before, chosen = found.extend(decoder.next(tokens), length)
        over = found.over(length)
        if length == how.max_length:
            found.finish(how.score(found.running, length), found.tokens)
            over = torch.ones_like(over)
        answers[found.rows[over]] = found.finished[over, 0]
        going = ~over
        if not bool(going.any()):
            break
        first = torch.arange(len(found.rows), device=device)[:, None] * how.beams
        if how.beams > 1 or bool(over.any()):
            decoder.select((first + before)[going].flatten())
            found.keep(going)
        tokens = chosen[going].view(-1, 1)
    return answers


def _pick(tokens: Tensor, chosen: Tensor) -> Tensor:
    """[B, K, L] and places [B, k] → [B, k, L]."""
    return tokens.gather(1, chosen[:, :, None].expand(-1, -1, tokens.shape[2]))
