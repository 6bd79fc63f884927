"""A small Transformer encoder–decoder from scratch: texts in, texts out (`retrainer/models/_transformer.py`).

Its tokenizer is the task's, made from the training rows. Attention, and so its time, goes over whole texts:
it is meant for sentences. Legend: B rows, K beams, R = B · K hypotheses, T tokens, V vocabulary.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from retrainer.errors import SettingError
from retrainer.formats.keys import Keys
from retrainer.settings import Section

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from retrainer.models._network import Batch, Body
    from retrainer.models._transformer import EncoderDecoder, KeyValues

SHAPED_BY_WEIGHTS = False
_TOKENIZER = "tokenizer.json"


class Options(Section):
    """Further keys of `backbone:` for this family. `training.dropout` counts in all of its layers."""

    width: int = Field(192, ge=8, description="of a token's vector; a multiple of twice the heads")
    heads: int = Field(4, ge=1, description="of each attention")
    layers: int = Field(3, ge=1, description="of the encoder")
    decoder_layers: int = Field(0, ge=0, description="0: as many as the encoder has; fewer write faster")
    feedforward: int = Field(0, ge=0, description="width between a layer's two linear parts; 0: 4 x width")


class Config(Keys):
    vocabulary: int = Field(ge=1, description="the number of tokens")
    width: int = Field(ge=1, description="of each layer's output")
    heads: int = Field(ge=1, description="of each attention")
    layers: int = Field(ge=1, description="of the encoder")
    decoder_layers: int | None = Field(None, description="of the decoder; the encoder's number if left out")
    feedforward: int = Field(ge=1, description="inner width of each layer")
    max_length: int = Field(ge=1, description="the number of tokens that either side may have")
    pad: int = Field(ge=0, description="the id that fills shorter rows up")
    start: int = Field(ge=0, description="the id before a target")
    end: int = Field(ge=0, description="the id behind a target")


def build(
    options: Options, input_spec: dict[str, Any], weights: Path | str | None, seed: int, fresh: bool
) -> Body:
    """The network with random values, or those of a model directory of ours, whose tokenizer then counts."""
    from retrainer.models._start import drawn_from

    _require_texts(input_spec)
    if weights is not None and not fresh:
        return _continued(weights, input_spec["max_length"])
    tokenizer = input_spec["tokenizer"]()
    config = _config(options, tokenizer, input_spec["max_length"])
    with drawn_from(seed):
        body = restore(config)
    body.preprocessing = _preprocessing(config)
    body.assets = {_TOKENIZER: tokenizer}
    return body


def _continued(weights: Path | str, max_length: int) -> Body:
    """The network of a model directory of ours. Raises UserError for other weights, or a length beyond it."""
    from retrainer.models._start import fill, is_ours, our_model, read_tensors

    if not isinstance(weights, Path) or not is_ours(weights):
        raise SettingError(
            "backbone.weights: encoder_decoder starts from models of this project alone; set"
            " models:/NAME@ALIAS or a model directory, or backbone.family: seq2seq for Hugging Face weights"
        )
    theirs = our_model(weights, "encoder_decoder")
    room = theirs["config"]["max_length"]
    if max_length > room:
        raise SettingError(
            f"task.max_length: {max_length}, but this model takes {room} tokens; set that or less"
        )
    body = restore(theirs["config"])
    fill(body.module, read_tensors(weights))
    body.preprocessing = theirs["preprocessing"] | {"max_length": max_length}
    body.assets = {_TOKENIZER: (weights / _TOKENIZER).read_bytes()}
    return body


def _require_texts(input_spec: dict[str, Any]) -> None:
    if input_spec["kind"] != "text_to_text":
        raise SettingError(
            "backbone.family: encoder_decoder writes texts; set task.kind: translation, or another family"
        )


def _config(options: Options, tokenizer: bytes, max_length: int) -> dict[str, Any]:
    """JSON for `restore`. Raises UserError for a width that the heads cannot share."""
    if options.width % (2 * options.heads):
        raise SettingError(
            f"backbone.width: {options.width} is no multiple of twice the {options.heads} heads; set"
            f" {options.width // (2 * options.heads) * 2 * options.heads or 2 * options.heads}"
        )
    described = json.loads(tokenizer)
    special = {token["content"]: token["id"] for token in described["added_tokens"]}
    return {
        "vocabulary": 1 + max(*special.values(), *described["model"]["vocab"].values()),
        "width": options.width,
        "heads": options.heads,
        "layers": options.layers,
        "decoder_layers": options.decoder_layers or options.layers,
        "feedforward": options.feedforward or 4 * options.width,
        "max_length": max_length,
        **{key: special[token] for key, token in (("pad", "<pad>"), ("start", "<s>"), ("end", "</s>"))},
    }


def _preprocessing(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "text_to_text",
        "tokenizer": _TOKENIZER,
        "target_tokenizer": _TOKENIZER,
        "max_length": config["max_length"],
        "pad_id": config["pad"],
        "start": [config["start"]],
        "end": config["end"],
    }


def restore(config: dict[str, Any]) -> Body:
    """The network that `config` describes, with random values."""
    from retrainer.models._network import Body
    from retrainer.models._transformer import EncoderDecoder, Shape

    config = {"decoder_layers": config["layers"], **config}  # models made before the key had as many
    module = EncoderDecoder(Shape(**{name: int(config[name]) for name in Shape._fields}))
    body = Body(module, _logits, int(config["width"]), config, preprocessing={})
    body.blocks = _blocks
    body.generate = _generate(config)
    return body


def _blocks(module: nn.Module) -> list[str]:
    return [
        name for name, part in module.named_modules() if name.rpartition(".")[0] in ("encoder", "decoder")
    ]


def _logits(module: nn.Module, batch: Batch) -> Tensor:
    """[B, T, V]: of each next token of the target."""
    return module(batch["input_ids"], batch["attention_mask"], batch["decoder_input_ids"])


def _generate(config: dict[str, Any]) -> Any:
    def generate(module: nn.Module, batch: Batch, options: dict[str, Any]) -> Tensor:
        """Ids [B, L], filled up with the end token. `options`: beams, length_penalty, max_length."""
        from retrainer.models._decoding import Search, search

        never = (config["pad"], config["start"])
        how = Search((config["start"],), config["end"], never, **options)
        ids = batch["input_ids"]
        return search(_Decoder(module, batch, how.beams), len(ids), how, ids.device)

    return generate


class _Decoder:
    """The keys and values of every layer: of the source, and of the target so far."""

    def __init__(self, module: nn.Module, batch: Batch, beams: int) -> None:
        self.network: EncoderDecoder = module
        states, mask = self.network.encode(batch["input_ids"], batch["attention_mask"])
        self.mask = None if mask is None else mask.repeat_interleave(beams, 0)
        states = states.repeat_interleave(beams, 0)
        remembered = (layer.cross.remember(states) for layer in self.network.decoder)
        # In the order that each of the next steps reads them in, which else copies them anew.
        self.source: list[KeyValues] = [_in_order(one) for one in remembered]
        self.target: list[KeyValues | None] = [None] * len(self.source)
        self.fed = 0

    def next(self, tokens: Tensor) -> Tensor:
        """One further token of each hypothesis [R, 1] → logits [R, V]."""
        states = self.network.embed(tokens, self.fed)
        for place, layer in enumerate(self.network.decoder):
            states, self.target[place] = layer(states, self.mask, self.source[place], self.target[place])
        self.fed += tokens.shape[1]
        return self.network.logits(states[:, -1])

    def select(self, hypotheses: torch.Tensor) -> None:
        fewer = len(hypotheses) < len(self.source[0].keys)
        self.target = [_picked(kept, hypotheses) for kept in self.target]
        if fewer:  # else only one row's hypotheses changed places, and they share their source
            self.source = [_picked(kept, hypotheses) for kept in self.source]
            self.mask = None if self.mask is None else self.mask[hypotheses]


def _in_order(kept: KeyValues) -> KeyValues:
    return type(kept)(*(part.contiguous() for part in kept))


def _picked(kept: Any, hypotheses: Tensor) -> KeyValues:
    """Those of these hypotheses."""
    return type(kept)(*(part.index_select(0, hypotheses) for part in kept))
