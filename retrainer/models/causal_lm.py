"""Language models of the llama architecture (SmolLM2, Llama 2, TinyLlama, …), from given weights.

The weights' directory tells the architecture and has the tokenizer and the chat template. Only safetensors
are read (and GGUF, which is turned into them), and none of its code is run. What is computed of a batch
stands in `retrainer/models/_causal_lm.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from retrainer.errors import SettingError
from retrainer.formats.keys import Keys
from retrainer.settings import Section

if TYPE_CHECKING:
    from torch import nn

    from retrainer.models._network import Body

SHAPED_BY_WEIGHTS = True
IMPORTED = ("transformers.models.llama.modeling_llama",)
_ARCHITECTURE = "llama"
_TEMPLATE = "chat_template.jinja"


class Options(Section):
    """The family has no further keys of `backbone:`."""


class Config(Keys):
    model: dict[str, Any] = Field(
        description="the network's config.json, with its model_type, without what says nothing of its shape"
    )
    pad: int = Field(ge=0, description="the id that fills shorter rows up")
    end: int = Field(ge=0, description="the id behind an answer")


def build(
    options: Options,  # noqa: ARG001 (there are none)
    input_spec: dict[str, Any],
    weights: Path | str | None,
    seed: int,
    fresh: bool,
) -> Body:
    """A language model, its tokenizer and its chat template."""
    from retrainer.models._from_directory import described, first_body, require_directory

    if input_spec["kind"] != "causal_text":
        raise SettingError(
            "backbone.family: causal_lm continues texts; set task.kind: text_generation, or another family"
        )
    ways = "a hub id, a local directory, package:NAME, a .gguf file or models:/NAME@ALIAS"
    found = require_directory(weights, "causal_lm", ways)
    config, preprocessing, assets = described(found, "causal_lm", _described)
    body = first_body(
        found, seed if fresh else None, lambda: restore(config), lambda: _body(_pretrained(found), config)
    )
    body.assets = assets
    body.preprocessing = preprocessing | {"max_length": input_spec["max_length"]}
    _require_fit(body, found)
    return body


def restore(config: dict[str, Any]) -> Body:
    """The architecture that `config` describes, with random values."""
    from transformers import AutoModelForCausalLM

    from retrainer.models._hugging_face import empty_model

    _require_llama(str(config["model"].get("model_type")), "this model")
    return _body(empty_model(AutoModelForCausalLM, config["model"]), config)


def _require_llama(architecture: str, what: str) -> None:
    if architecture != _ARCHITECTURE:
        raise SettingError(
            f"backbone.weights: {what} is of the architecture {architecture}, and causal_lm takes"
            f" {_ARCHITECTURE} alone; choose SmolLM2, Llama, TinyLlama or their like"
        )


def _described(weights: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, bytes]]:
    """Config, preprocessing (but for the length) and assets of a directory in Hugging Face layout."""
    from retrainer.models._hugging_face import described, shape_of
    from retrainer.models._text import TOKENIZER, read_tokenizer

    found = described(weights)
    _require_llama(found.model_type, weights.name)
    template, marks = _chat_of(weights)
    assets = {TOKENIZER: read_tokenizer(weights)}
    end = _end_of(found.eos_token_id, assets[TOKENIZER], marks["eos_token"], weights.name)
    pad = end if found.pad_token_id is None else int(found.pad_token_id)
    if template:
        assets[_TEMPLATE] = template.encode()
    preprocessing = {
        "kind": "causal_text",
        "tokenizer": TOKENIZER,
        "chat_template": _TEMPLATE if template else "",
        **marks,
        "pad_id": pad,
        "end": end,
    }
    return {"model": shape_of(found), "pad": pad, "end": end}, preprocessing, assets


def _end_of(given: Any, tokenizer: bytes, mark: str, title: str) -> int:
    """The id behind an answer: of several that config.json has, as Llama 3's, the tokenizer's own mark."""
    from tokenizers import Tokenizer

    ends = given if isinstance(given, list) else [given]
    if not ends or ends[0] is None:
        raise SettingError(
            f"backbone.weights: {title}/config.json tells no eos_token_id; add the id of the token that ends"
            " a text"
        )
    own = Tokenizer.from_buffer(tokenizer).token_to_id(mark) if len(ends) > 1 else None
    return own if own is not None and own in ends else int(ends[0])


def _chat_of(weights: Path) -> tuple[str, dict[str, str]]:
    """The chat template, "" where there is none, and the marks that it may name."""
    from retrainer.models._text import read_json

    note = weights / "tokenizer_config.json"
    said = read_json(note) if note.is_file() else {}
    said = said if isinstance(said, dict) else {}
    beside, template = weights / _TEMPLATE, said.get("chat_template", "")
    if beside.is_file():
        try:
            template = beside.read_text(encoding="utf-8")
        except ValueError:
            raise SettingError(f"backbone.weights: {_TEMPLATE} is not UTF-8; save it as UTF-8") from None
    if isinstance(template, list):  # several by name, of which one is the usual one
        named = [one for one in template if isinstance(one, dict) and one.get("name") == "default"]
        template = named[0].get("template") if named else ""
    marks = {name: _token(said.get(name)) for name in ("bos_token", "eos_token")}
    return template if isinstance(template, str) else "", marks


def _token(said: Any) -> str:
    """A token, as a text or as the note of one."""
    found = said.get("content") if isinstance(said, dict) else said
    return found if isinstance(found, str) else ""


def _pretrained(weights: Path) -> nn.Module:
    """The network with the directory's values. Raises UserError when they are not all there."""
    from transformers import AutoModelForCausalLM

    from retrainer.models._hugging_face import load_pretrained, require_all

    module, lacking = load_pretrained(AutoModelForCausalLM, weights)
    require_all(weights, lacking)
    return module


def _body(module: nn.Module, config: dict[str, Any]) -> Body:
    from retrainer.models import _causal_lm as compute
    from retrainer.models._network import Body

    decoder = compute.decoder_of(module)
    body = Body(decoder, compute.answer_logits, int(decoder.config.hidden_size), config, preprocessing={})
    body.generate = compute.generate(config)
    return body


def _require_fit(body: Body, weights: Path) -> None:
    """Raises UserError when the tokenizer or the length does not fit the network."""
    from retrainer.models._text import TOKENIZER, token_preprocessing

    token_preprocessing(body.module, body.assets[TOKENIZER], body.preprocessing["max_length"])
    known = body.module.get_input_embeddings().num_embeddings
    if not all(0 <= body.config[name] < known for name in ("end", "pad")):
        raise SettingError(
            f"backbone.weights: {weights.name} knows {known:,} tokens, and its eos_token_id or pad_token_id"
            " is none of them; correct config.json"
        )
