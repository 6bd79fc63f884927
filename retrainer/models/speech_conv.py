"""Residual convolutions over the frames of a log-mel spectrogram, from scratch; then, if asked for, a GRU.

Small: for words and short sentences on a CPU. Legend: B rows, T frames, M mel bands, D width.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from retrainer.errors import SettingError
from retrainer.formats.keys import Keys
from retrainer.settings import Section

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retrainer.models._network import Batch, Body

SHAPED_BY_WEIGHTS = False
_RATE = 16_000


class Options(Section):
    """Further keys of `backbone:` for this family."""

    width: int = Field(128, ge=2, description="channels of each layer")
    blocks: int = Field(4, ge=1, description="residual convolutions")
    kernel: int = Field(5, ge=1, description="frames that a convolution looks at, an odd number")
    stride: int = Field(2, ge=1, description="frames that become one in the first layer")
    recurrent: int = Field(0, ge=0, description="units, to either side, of a GRU above; 0: none")
    dropout: float = Field(0.1, ge=0, lt=1, description="in each block")
    mels: int = Field(40, ge=8, description="bands of the spectrum")
    window_seconds: float = Field(0.025, gt=0, description="of sound that a frame sees")
    hop_seconds: float = Field(0.01, gt=0, description="from one frame to the next")
    normalise: Literal["row", "loudness", "speech"] = Field(
        "row", description="each band of a row, all of it, or each band over the frames that hold speech"
    )
    range_db: float = Field(
        0.0, ge=0, description="what lies further below a row's loudest band counts as so quiet; 0: no limit"
    )
    pooling: Literal["mean", "mean-max"] = Field(
        "mean", description="for classes: of a row's frames the mean, or the mean and the maximum"
    )


class Config(Keys):
    width: int = Field(ge=2, description="channels of each layer")
    blocks: int = Field(ge=1, description="residual convolutions")
    kernel: int = Field(ge=1, description="frames that a convolution looks at, an odd number")
    stride: int = Field(ge=1, description="frames that become one in the first layer")
    recurrent: int = Field(ge=0, description="units, to either side, of a GRU above; 0: none")
    dropout: float = Field(ge=0, lt=1, description="in each block")
    mels: int = Field(ge=1, description="bands of the spectrum")
    frames: bool = Field(description="true: a vector for each frame (speech); false: one for a row (classes)")
    pooling: Literal["mean", "mean-max"] = Field("mean", description="from a row's frames to one vector")


def build(
    options: Options, input_spec: dict[str, Any], weights: Path | str | None, seed: int, fresh: bool
) -> Body:
    """The network with random values, or those of a model directory of ours."""
    from retrainer.models._audio import audio_preprocessing, require_audio
    from retrainer.models._start import drawn_from

    require_audio("speech_conv", input_spec)
    if options.kernel % 2 == 0:
        raise SettingError(f"backbone.kernel: {options.kernel} has no middle; set an odd number")
    rate = input_spec["sampling_rate"] or _RATE
    spectrum: dict[str, Any] = {
        "window": round(options.window_seconds * rate),
        "hop": round(options.hop_seconds * rate),
        "mels": options.mels,
        "normalise": options.normalise,
    }
    if options.range_db:  # so that what is without a limit starts from models that knew of none
        spectrum["range_db"] = options.range_db
    shape = {name: getattr(options, name) for name in _SHAPE}
    config = {**shape, "mels": options.mels, "frames": input_spec["frames"], "pooling": options.pooling}
    with drawn_from(seed):
        body = restore(config)
    body.preprocessing = audio_preprocessing(
        input_spec, rate, spectrum["hop"] * options.stride, spectrum=spectrum
    )
    if not fresh and weights is not None:
        _load(body, weights)
    return body


_SHAPE = ("width", "blocks", "kernel", "stride", "recurrent", "dropout")


def _load(body: Body, weights: Path | str) -> None:
    from retrainer.models._start import fill, is_ours, our_model, read_tensors

    if not isinstance(weights, Path) or not is_ours(weights):
        raise SettingError(
            "backbone.weights: speech_conv starts from models of this project alone; set models:/NAME@ALIAS"
            " or a model directory"
        )
    theirs = our_model(weights, "speech_conv")
    differ = [name for name in _SHAPE if theirs["config"][name] != body.config[name]]
    heard = [
        name
        for name in ("sampling_rate", "spectrum")
        if theirs["preprocessing"][name] != body.preprocessing[name]
    ]
    if differ or heard:
        named = f"backbone.{differ[0]}" if differ else "task.sampling_rate and the spectrum"
        raise SettingError(
            f"backbone.weights: {weights.name} has another {named}; set what its settings.json says"
        )
    fill(body.module, read_tensors(weights))


def restore(config: dict[str, Any]) -> Body:
    """The network that `config` describes, with random values."""
    from retrainer.models._network import Body
    from retrainer.models._speech_conv import SpeechConv

    module = SpeechConv(config["mels"], **{name: config[name] for name in _SHAPE})
    if config["frames"]:
        return Body(module, _frames, module.outputs, config, preprocessing={})
    if config.get("pooling", "mean") == "mean":  # older models do not say
        return Body(module, _mean, module.outputs, config, preprocessing={})
    return Body(module, _mean_and_maximum, 2 * module.outputs, config, preprocessing={})


def _frames(module: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """(states [B, T, D], frames [B])."""
    return module(batch["audio"], batch["lengths"])


def _mean(module: nn.Module, batch: Batch) -> Tensor:
    """The mean of a row's frames [B, D]."""
    states, frames = _frames(module, batch)
    return states.sum(1) / frames[:, None].clamp(min=1)


def _mean_and_maximum(module: nn.Module, batch: Batch) -> Tensor:
    """The mean and the maximum of a row's frames [B, 2 D]."""
    import torch

    states, frames = _frames(module, batch)
    if not len(states):
        return states.new_zeros(0, 2 * states.shape[2])
    behind = torch.arange(states.shape[1], device=frames.device) >= frames[:, None]
    maximum = states.masked_fill(behind[:, :, None], -torch.inf).amax(1)
    return torch.cat([states.sum(1) / frames[:, None], maximum], 1)
