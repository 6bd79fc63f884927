"""Hugging Face encoder–decoders: Marian, T5, BART, mBART, M2M100, NLLB, …, from given weights.

The weights' directory tells the architecture and has the tokenizer. Only safetensors are read, and none of
its code is run. Legend: B rows, K beams, R = B · K hypotheses, T tokens, V vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from retrainer.errors import SettingError
from retrainer.formats.keys import Keys
from retrainer.settings import Section

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retrainer.models._network import Batch, Body

SHAPED_BY_WEIGHTS = True
IMPORTED = ("transformers.modeling_utils",)


class Options(Section):
    """Further keys of `backbone:` for this family. Dropout is that of the weights' own configuration."""

    source_language: str = Field(
        "", description="of multilingual weights, as their tokenizer names it: de_DE"
    )
    target_language: str = Field("", description="likewise: en_XX")


class Config(Keys):
    model: dict[str, Any] = Field(
        description="the network's config.json, with its model_type, without what says nothing of its shape"
    )
    pad: int = Field(ge=0, description="the id that fills shorter rows up")
    start: list[int] = Field(description="ids that the decoder is fed before a target")
    end: int = Field(ge=0, description="the id behind a target")


def build(
    options: Options, input_spec: dict[str, Any], weights: Path | str | None, seed: int, fresh: bool
) -> Body:
    """An encoder–decoder and the tokenizers of its two sides."""
    from retrainer.models._from_directory import described, first_body, require_directory
    from retrainer.models._translators import read_tokenizers

    if input_spec["kind"] != "text_to_text":
        raise SettingError(
            "backbone.family: seq2seq writes texts; set task.kind: translation, or another family"
        )
    ways = "a hub id, a local directory or models:/NAME@ALIAS"
    found = require_directory(weights, "seq2seq", ways)
    config, preprocessing, assets = described(
        found, "seq2seq", lambda theirs: read_tokenizers(theirs, *_languages(options))
    )
    body = first_body(
        found, seed if fresh else None, lambda: restore(config), lambda: _body(_pretrained(found), config)
    )
    body.assets = assets
    body.preprocessing = preprocessing | {"max_length": input_spec["max_length"]}
    _require_fit(body, found)
    return body


def restore(config: dict[str, Any]) -> Body:
    """The architecture that `config` describes, with random values."""
    from transformers import AutoModelForSeq2SeqLM

    from retrainer.models._hugging_face import empty_model

    return _body(empty_model(AutoModelForSeq2SeqLM, config["model"]), config)


def _languages(options: Options) -> tuple[str, str]:
    given = options.source_language, options.target_language
    if bool(given[0]) != bool(given[1]):
        raise SettingError(
            "backbone.source_language and backbone.target_language go together; set both or none"
        )
    return given


def _pretrained(weights: Path) -> nn.Module:
    """The network with the directory's values. Raises UserError when they are not all there."""
    from transformers import AutoModelForSeq2SeqLM

    from retrainer.models._hugging_face import load_pretrained, require_all

    module, lacking = load_pretrained(AutoModelForSeq2SeqLM, weights)
    require_all(weights, lacking)
    return module


def _body(module: nn.Module, config: dict[str, Any]) -> Body:
    from retrainer.models._network import Body

    for part in module.modules():
        if type(part).__name__.endswith("SinusoidalPositionalEmbedding"):  # a fixed table, as in Marian
            part.requires_grad_(False)
    body = Body(module, _logits, int(module.config.hidden_size), config, preprocessing={})
    body.generate = _generate(config)
    return body


def _require_fit(body: Body, weights: Path) -> None:
    """Raises UserError when the tokenizers or the length do not fit the network."""
    from tokenizers import Tokenizer

    module: Any = body.module
    known = module.get_input_embeddings().num_embeddings
    for asset in body.assets.values():
        highest = max(Tokenizer.from_buffer(asset).get_vocab().values())
        if highest >= known:
            raise SettingError(
                f"backbone.weights: {weights.name}'s tokenizer has token {highest}, but the model knows only"
                f" {known}"
            )
    room = getattr(module.config, "max_position_embeddings", None)
    needed = body.preprocessing["max_length"] + len(body.preprocessing["start"]) - 1
    if room is not None and needed > room:
        raise SettingError(
            f"task.max_length: {body.preprocessing['max_length']}, but this model takes"
            f" {room - len(body.preprocessing['start']) + 1} tokens; set that or less"
        )


def _logits(module: nn.Module, batch: Batch) -> Tensor:
    """[B, T, V]: of each next token of the target."""
    return module(**batch, use_cache=False).logits


def _generate(config: dict[str, Any]) -> Any:
    def generate(module: nn.Module, batch: Batch, options: dict[str, Any]) -> Tensor:
        """Ids [B, L], filled up with the end token. `options`: beams, length_penalty, max_length."""
        from retrainer.models._decoding import Search, search

        never = () if config["pad"] == config["end"] else (config["pad"],)
        how = Search(tuple(config["start"]), config["end"], never, **options)
        ids = batch["input_ids"]
        return search(_Decoder(module, batch, how.beams), len(ids), how, ids.device)

    return generate


class _Decoder:
    """transformers' own cache of keys and values, for `search`."""

    def __init__(self, module: nn.Module, batch: Batch, beams: int) -> None:
        from transformers import DynamicCache, EncoderDecoderCache
        from transformers.modeling_outputs import BaseModelOutput

        self.network: Any = module
        self.mask = batch["attention_mask"].repeat_interleave(beams, 0)
        encoder = self.network.get_encoder()
        states = encoder(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        self.encoded = BaseModelOutput(states.repeat_interleave(beams, 0))
        self.cache = EncoderDecoderCache(DynamicCache(), DynamicCache())

    def next(self, tokens: Tensor) -> Tensor:
        """Further tokens [R, n] → logits of the one after them [R, V]."""
        made = self.network(
            attention_mask=self.mask,
            encoder_outputs=self.encoded,
            decoder_input_ids=tokens,
            past_key_values=self.cache,
            use_cache=True,
        )
        return made.logits[:, -1]

    def select(self, hypotheses: Tensor) -> None:
        self.cache.reorder_cache(hypotheses)
        self.encoded.last_hidden_state = self.encoded.last_hidden_state[hypotheses]
        self.mask = self.mask[hypotheses]
