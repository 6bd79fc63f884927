"""Hugging Face networks that hear: wav2vec 2.0, HuBERT, WavLM and their kin, and Whisper, from given weights.

wav2vec 2.0 and its kin give states a frame, under the task's CTC head. Whisper writes tokens itself; for
classes the mean of its encoder's states is taken (`retrainer/models/_speech_transformers.py`).
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
IMPORTED = ("transformers.modeling_utils",)
_WHISPER = "whisper"
_UNTOUCHED_SECONDS = 10.0
_MASK = "masked_spec_embed"


class Options(Section):
    """Further keys of `backbone:` for this family."""

    language: str = Field("en", description="of a multilingual Whisper, as its tokenizer names it: de")
    window_seconds: float = Field(
        0.0,
        ge=0,
        description="Whisper: sound that its encoder sees, for short clips less than its 30 s; 0: all of it",
    )


class Config(Keys):
    model: dict[str, Any] = Field(
        description="the network's config.json, with its model_type, without what says nothing of its shape"
    )
    frames: bool = Field(description="true: it writes (speech); false: one vector for a row (classes)")
    start: list[int] | None = Field(None, description="of Whisper: ids before a text")
    end: int | None = Field(None, description="of Whisper: the id behind a text")
    never: list[int] | None = Field(None, description="of Whisper: ids that no text has")
    never_first: list[int] | None = Field(None, description="of Whisper: ids with which no text begins")


def build(
    options: Options,
    input_spec: dict[str, Any],
    weights: Path | str | None,
    seed: int,
    fresh: bool,
) -> Body:
    """The network, and for Whisper the tokenizer beside its weights."""
    from retrainer.models._audio import require_audio
    from retrainer.models._from_directory import first_body, require_directory
    from retrainer.models._start import is_ours, our_model
    from retrainer.models._text import TOKENIZER, read_tokenizer
    from retrainer.models._whisper_tokens import wanted_after_all

    require_audio("speech_transformers", input_spec)
    ways = "a hub id, a local directory, package:NAME or models:/NAME@ALIAS"
    found = require_directory(weights, "speech_transformers", ways)
    theirs = our_model(found, "speech_transformers") if is_ours(found) else None
    config = (theirs["config"] if theirs else _described(found, options)) | {"frames": input_spec["frames"]}
    if _writes(config):
        config |= wanted_after_all(config, input_spec, read_tokenizer(found))
    body = first_body(
        found,
        seed if fresh else None,
        lambda: restore(config),
        lambda: _body(_pretrained(found, config), config),
    )
    heard = theirs["preprocessing"] if theirs else _recorded(found, config["model"])
    body.preprocessing = _preprocessing(input_spec, heard, config)
    if body.generate is not None:
        body.assets = {TOKENIZER: read_tokenizer(found)}
    return body


def untouched(options: Options, weights: Path) -> tuple[Options, str]:
    """The options by which weights answer that nobody has trained further, and a note where they differ.

    A Whisper that was trained on 30 s repeats its words when its encoder sees 2.4 or 5 s; with 10 s it does
    not (tiny.en on spoken digits).
    """
    from retrainer.models._hugging_face import described, shape_of
    from retrainer.models._start import is_ours

    seconds = options.window_seconds
    if not seconds or is_ours(weights) or described(weights).model_type != _WHISPER:
        return options, ""
    most = _recorded(weights, shape_of(described(weights)))["spectrum"]["pad_seconds"]
    longer = min(most, max(_UNTOUCHED_SECONDS, seconds))
    note = f"its encoder sees {longer:g} s instead of {seconds:g} s" if longer != seconds else ""
    return options.model_copy(update={"window_seconds": longer}), note


def _described(weights: Path, options: Options) -> dict[str, Any]:
    """Our description of a directory in Hugging Face layout."""
    from retrainer.models._hugging_face import described, shape_of
    from retrainer.models._whisper_tokens import marks

    found = described(weights)
    if found.model_type == _WHISPER:
        model = _cut(shape_of(found), weights, options.window_seconds)
        return {"model": model, **marks(weights, found.vocab_size, options.language)}
    if not hasattr(found, "conv_stride"):
        raise SettingError(
            f"backbone.weights: {weights.name} is a {found.model_type}, which hears nothing; choose wav2vec"
            " 2.0, HuBERT, WavLM or Whisper"
        )
    return {"model": shape_of(found)}


def _cut(model: dict[str, Any], weights: Path, seconds: float) -> dict[str, Any]:
    """A Whisper's shape with an encoder of so many positions as `seconds` of sound need.

    It pads every sound to all of its positions: a clip of 1 s costs as much as one of 30 s.
    """
    from math import ceil

    heard = _recorded(weights, model)
    positions = ceil(seconds * heard["sampling_rate"] / heard["spectrum"]["hop"] / 2)
    if positions > model["max_source_positions"]:
        raise SettingError(
            f"backbone.window_seconds: {seconds:g}, but these weights hear"
            f" {heard['spectrum']['pad_seconds']:g} s; set that or less"
        )
    return model | {"max_source_positions": positions or model["max_source_positions"]}


def restore(config: dict[str, Any]) -> Body:
    """The architecture that `config` describes, with random values."""
    from transformers import AutoConfig, AutoModel, WhisperForConditionalGeneration

    model = dict(config["model"])
    described = AutoConfig.for_model(model.pop("model_type"), **model)
    if _writes(config):
        return _body(WhisperForConditionalGeneration(described), config)
    return _body(AutoModel.from_config(described, trust_remote_code=False), config)


def _writes(config: dict[str, Any]) -> bool:
    """Whether the network's own decoder makes the texts."""
    return config["model"]["model_type"] == _WHISPER and config["frames"]


def _pretrained(weights: Path, config: dict[str, Any]) -> nn.Module:
    """The network with the directory's values. Raises UserError when they are not all there."""
    from transformers import AutoModel, WhisperForConditionalGeneration

    from retrainer.models._hugging_face import load_pretrained, require_all
    from retrainer.models._speech_transformers import cut_positions

    module, lacking = load_pretrained(
        WhisperForConditionalGeneration if _writes(config) else AutoModel, weights
    )
    if _MASK in lacking:  # only the network's own masking of its input reads it
        module.get_parameter(_MASK).data.zero_()
    require_all(weights, [name for name in lacking if name != _MASK])
    if config["model"]["model_type"] == _WHISPER:
        cut_positions(module, config["model"]["max_source_positions"])
    return module


def _body(module: Any, config: dict[str, Any]) -> Body:
    from retrainer.models import _speech_transformers as compute
    from retrainer.models._network import Body

    if config["model"]["model_type"] == _WHISPER:
        width = int(module.config.d_model)
        if not config["frames"]:
            return Body(module.encoder, compute.encoder_mean, width, config, preprocessing={})
        body = Body(module, compute.token_logits, width, config, preprocessing={})
        body.generate, body.blocks = compute.generate(config), compute.whisper_blocks
        return body
    # It would draw from NumPy's global generator; the task augments instead.
    module.config.apply_spec_augment = False
    features = compute.frame_states if config["frames"] else compute.frame_mean
    return Body(module, features, int(module.config.hidden_size), config, preprocessing={})


def _recorded(weights: Path, model: dict[str, Any]) -> dict[str, Any]:
    """`sampling_rate` and how the samples were scaled, as the directory's extractor says."""
    from retrainer.models._text import read_json

    note = weights / "preprocessor_config.json"
    said = read_json(note) if note.is_file() else {}
    rate = int(said.get("sampling_rate", 16_000))
    if model["model_type"] != _WHISPER:
        return {"sampling_rate": rate, "normalise": bool(said.get("do_normalize", True))}
    window, hop = int(said.get("n_fft", 400)), int(said.get("hop_length", 160))
    seconds = 2 * int(model["max_source_positions"]) * hop / rate
    spectrum = {"window": window, "hop": hop, "mels": int(model["num_mel_bins"])}
    return {"sampling_rate": rate, "spectrum": spectrum | {"normalise": "whisper", "pad_seconds": seconds}}


def _preprocessing(
    input_spec: dict[str, Any], heard: dict[str, Any], config: dict[str, Any]
) -> dict[str, Any]:
    from math import prod

    from retrainer.models._audio import audio_preprocessing
    from retrainer.models._text import TOKENIZER

    model = config["model"]
    rate = heard["sampling_rate"]
    if input_spec["sampling_rate"] not in (None, rate):
        raise SettingError(
            f"task.sampling_rate: these weights hear {rate:,} samples a second; set that, or leave it out"
        )
    if model["model_type"] != _WHISPER:
        step = prod(model["conv_stride"])
        return audio_preprocessing(input_spec, rate, step, normalise=bool(heard["normalise"]))
    spectrum = heard["spectrum"]
    if input_spec["max_seconds"] > spectrum["pad_seconds"]:
        raise SettingError(
            f"task.max_seconds: {input_spec['max_seconds']:g}, but this network hears"
            f" {spectrum['pad_seconds']:g} s; set that or less"
        )
    made = audio_preprocessing(input_spec, rate, 2 * spectrum["hop"], spectrum=spectrum)
    if not input_spec["frames"]:
        return made
    # Its tokenizer writes; the characters of the training rows are of no use.
    written = {name: value for name, value in made.items() if name not in ("units", "words")}
    room = int(config["model"]["max_target_positions"]) - len(config["start"]) - 1
    marks = {name: config[name] for name in ("start", "end")}
    return written | {"tokenizer": TOKENIZER, "max_length": min(int(input_spec["max_length"]), room), **marks}
