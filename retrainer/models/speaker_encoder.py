"""The LSTM speaker encoder of generalised end-to-end training, from scratch or from Resemblyzer's weights.

It hears windows of 1.6 s, one every 0.77 s, and a sound's vector is the mean of theirs, each of length 1
(Wan et al., Generalized End-to-End Loss for Speaker Verification, ICASSP 2018; shape, spectrum and windows as
of Resemblyzer 0.1.4).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from retrainer.errors import SettingError
from retrainer.formats.keys import Keys
from retrainer.settings import Section

if TYPE_CHECKING:
    from retrainer.models._network import Body

SHAPED_BY_WEIGHTS = False
_RATE, _WINDOW, _HOP, _LEVEL_DBFS = 16_000, 400, 160, -30.0


class Options(Section):
    """Further keys of `backbone:` for this family; the defaults are the shape of Resemblyzer's weights."""

    width: int = Field(256, ge=2, description="numbers of a sound's vector")
    hidden: int = Field(256, ge=1, description="units of each LSTM layer")
    layers: int = Field(3, ge=1, description="LSTM layers")
    mels: int = Field(40, ge=8, description="bands of the spectrum")


class Config(Keys):
    width: int = Field(ge=2, description="numbers of a sound's vector")
    hidden: int = Field(ge=1, description="units of each LSTM layer")
    layers: int = Field(ge=1, description="LSTM layers")
    mels: int = Field(ge=1, description="bands of the spectrum")


def build(
    options: Options, input_spec: dict[str, Any], weights: Path | str | None, seed: int, fresh: bool
) -> Body:
    """The network with random values, or those of a directory or .safetensors file."""
    from retrainer.models._audio import audio_preprocessing, require_audio
    from retrainer.models._start import drawn_from, fill, is_ours, our_model, read_tensors, require_file

    require_audio("speaker_encoder", input_spec)
    if input_spec["frames"]:
        raise SettingError(
            "backbone.family: speaker_encoder makes one vector of a sound, and no text; set task.kind:"
            " speaker_verification or audio_classification, or another family"
        )
    if input_spec["sampling_rate"] not in (None, _RATE):
        raise SettingError(
            f"task.sampling_rate: speaker_encoder hears {_RATE:,} samples a second; set that, or leave it out"
        )
    config = {name: getattr(options, name) for name in Options.model_fields}
    with drawn_from(seed):
        body = restore(config)
    spectrum: dict[str, Any] = {"window": _WINDOW, "hop": _HOP, "mels": options.mels}
    spectrum |= {"normalise": "power", "level_dbfs": _LEVEL_DBFS}
    body.preprocessing = audio_preprocessing(input_spec, _RATE, _HOP, spectrum=spectrum)
    if not fresh and weights is not None:
        file = require_file(weights, "speaker_encoder")
        if is_ours(file):
            our_model(file, "speaker_encoder")
        fill(body.module, read_tensors(file))
    return body


def restore(config: dict[str, Any]) -> Body:
    """The network that `config` describes, with random values."""
    from retrainer.models._network import Body
    from retrainer.models._speaker_encoder import SpeakerEncoder, mean_of_windows

    module = SpeakerEncoder(config["mels"], config["hidden"], config["layers"], config["width"])
    return Body(module, mean_of_windows, config["width"], config, preprocessing={})
