"""What a language model computes: logits of an answer's tokens, and an answer.

Only the places that count get logits: over 49,152 tokens they cost a quarter of what all 30 layers of SmolLM2
do. Legend: B rows, T tokens, A tokens of an answer, R hypotheses, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from retrainer.models._network import Batch


class TiedEmbedding(nn.Embedding):
    """A table of words that is the output layer too, so that no row of it may be left out in training."""


def decoder_of(network: nn.Module) -> nn.Module:
    """The layers of a LlamaForCausalLM, which hold its output layer as `lm_head` where it has its own.

    The whole would be stored with the table twice where both are one.
    """
    whole: Any = network
    decoder: nn.Module = whole.model
    config: Any = decoder.config
    config.use_cache = False
    if config.tie_word_embeddings:
        decoder.embed_tokens.__class__ = TiedEmbedding
    else:
        decoder.lm_head = whole.lm_head
    return decoder


def answer_logits(module: nn.Module, batch: Batch) -> Tensor:
    """[B, A, V]: of the token behind each place in `at`.

    Behind a text stands only padding, to which no earlier token looks: there is no mask.
    """
    read = {name: batch[name] for name in ("input_ids", "lengths") if name in batch}
    states = module(**read).last_hidden_state
    at = batch["at"].unsqueeze(2).expand(-1, -1, states.shape[2])
    return _logits(module, states.gather(1, at))


def _logits(module: nn.Module, states: Tensor) -> Tensor:
    network: Any = module
    head = getattr(network, "lm_head", None)
    return functional.linear(states, network.embed_tokens.weight) if head is None else head(states)


def generate(config: dict[str, Any]) -> Any:
    def write(module: nn.Module, batch: Batch, options: dict[str, Any]) -> Tensor:
        """Ids [B, L], filled up with the end token. `options`: max_length. The likeliest token each time."""
        from retrainer.models._decoding import Search, search

        never = () if config["pad"] == config["end"] else (config["pad"],)
        how = Search((), config["end"], never, **options)
        ids = batch["input_ids"]
        return search(_Decoder(module, batch), len(ids), how, ids.device)

    return write


class _Decoder:
    """Prompts with padding before them, and transformers' own cache of keys and values."""

    def __init__(self, module: nn.Module, batch: Batch) -> None:
        from transformers import DynamicCache

        self.network: Any = module
        self.prompts: Tensor | None = batch["input_ids"]
        self.mask = batch["attention_mask"]
        self.cache = DynamicCache()

    def next(self, tokens: Tensor) -> Tensor:
        """Further tokens [R, n], at first the prompts → logits of the one after them [R, V]."""
        if self.prompts is not None:
            tokens, self.prompts = self.prompts, None
        else:
            self.mask = functional.pad(self.mask, (0, tokens.shape[1]), value=1)
        places = (self.mask.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        made = self.network(
            input_ids=tokens,
            attention_mask=self.mask,
            position_ids=places,
            past_key_values=self.cache,
            use_cache=True,
        )
        return _logits(self.network, made.last_hidden_state[:, -1])

    def select(self, hypotheses: Tensor) -> None:
        self.cache.reorder_cache(hypotheses)
        self.mask = self.mask[hypotheses]
