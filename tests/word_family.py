"""A model family for tests: the mean of random word vectors, without anything of Hugging Face's."""

from __future__ import annotations

from typing import Any

from retrainer.models._network import Batch, Body
from retrainer.settings import Section

WIDTH = 4
WORDS = ("?", "good", "bad", "fine", "dull", "and", "so")
SHAPED_BY_WEIGHTS = False


class Options(Section):
    """It has no keys of its own."""


def features(module: Any, batch: Batch) -> Any:
    mask = batch["attention_mask"][..., None]
    return (module(batch["input_ids"]) * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def build(options: Options, input_spec: dict[str, Any], weights: Any, seed: int, fresh: bool) -> Body:  # noqa: ARG001
    body = restore({"seed": seed})
    body.preprocessing = {
        "kind": "tokens",
        "tokenizer": "tokenizer.json",
        "max_length": input_spec["max_length"],
        "pad_id": 0,
        "pairs": True,
    }
    body.assets = {"tokenizer.json": tokenizer()}
    return body


def restore(config: dict[str, Any]) -> Body:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(config["seed"])
        return Body(torch.nn.Embedding(len(WORDS), WIDTH), features, WIDTH, config, {})


def tokenizer() -> bytes:
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made.to_str().encode()
