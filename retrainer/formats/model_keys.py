"""Every key of model.json: what a model says of itself, checked at every door before anything is built.

The keys of `config` stand with the family that reads them, as its class `Config`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from retrainer.formats.keys import Keys

_BY_STEP = "written by the step train: "


class Privacy(Keys):
    """Of a private training (DP-SGD): what it spent, and from which anyone can compute it again."""

    epsilon: float = Field(description="spent by the steps really taken, an upper bound")
    delta: float = Field(description="the delta that it holds at")
    asked: float = Field(description="the epsilon of the settings")
    accountant: str = Field(description="the name of the method that counted")
    noise_multiplier: float = Field(description="noise, in times the largest norm of a row's gradient")
    sample_rate: float = Field(description="share of the rows that a step draws")
    steps: int = Field(description="steps really taken")
    clip_norm: float = Field(description="largest norm of a row's gradient")
    start: Literal["public weights", "private", "not private"] = Field(
        description="what the training began with"
    )
    total_epsilon: float | None = Field(description="with what the start spent; null where nothing bounds it")
    total_delta: float | None = Field(description="with what the start spent; null where nothing bounds it")


class Description(Keys):
    """What the outputs mean follows from `task`, which the step takes from the recipe."""

    family: str = Field(
        description="the file that builds the network: a name of retrainer/models, or plugins.NAME of yours"
    )
    config: dict[str, Any] = Field(description="what that file's `restore` is given: the network's shape")
    preprocessing: dict[str, Any] = Field(
        description="how a row becomes the network's input; its `kind` says which further keys it has"
    )
    labels: list[str] = Field(
        description="the names of the classes, in the order of the head's outputs, each as the dataset"
        " spells it; [] for a task without classes"
    )
    assets: list[str] = Field(
        [], description="the names of further files of the folder that the network needs, a tokenizer's"
    )
    temperature: float = Field(
        1.0, gt=0, description="what logits are divided by before they become probabilities"
    )
    privacy: Privacy | None = Field(None, description="the facts of a private training; nothing without one")
    task: dict[str, Any] | None = Field(None, description=f"{_BY_STEP}the section `task` of the settings")
    dataset_sha256: str | None = Field(None, description=f"{_BY_STEP}the dataset's content hash")


FROM_TRAINER = tuple(
    name
    for name, field in Description.model_fields.items()
    if not str(field.description).startswith(_BY_STEP)
)

_Count = Annotated[int, Field(ge=0)]
_Positive = Annotated[int, Field(ge=1)]


class Tokens(Keys):
    """`preprocessing` of texts."""

    kind: Literal["tokens"] = Field(description="the word tokens")
    tokenizer: str = Field(
        description="the name of that one of the assets which Hugging Face's `tokenizers` saved"
        " (tokenizer.json)"
    )
    max_length: _Count = Field(description="the number of tokens that a row is cut to")
    pad_id: _Count = Field(description="the id of the token that fills shorter rows up")
    pairs: bool = Field(description="whether the network takes `token_type_ids` of two texts")
    max_positions: _Count | None = Field(
        None, description="the number of tokens that the network has places for; null: no end"
    )


class Pixels(Keys):
    """`preprocessing` of images: scaled to cover the size, the middle kept, (value / 255 - mean) / std."""

    kind: Literal["pixels"] = Field(description="the word pixels")
    size: list[_Positive] = Field(min_length=2, max_length=2, description="[height, width] in pixels")
    channels: Literal[1, 3] = Field(description="1 for grey images, 3 for colour")
    mean: list[float] = Field(description="one number a channel, of values from 0 to 1")
    std: list[Annotated[float, Field(gt=0)]] = Field(
        description="one number a channel, of values from 0 to 1"
    )

    @model_validator(mode="after")
    def _a_number_a_channel(self) -> Self:
        for name in ("mean", "std"):
            given = getattr(self, name)
            if len(given) != self.channels:
                raise ValueError(
                    f"'{name}' has {len(given)} numbers, and 'channels' is {self.channels}; write one a"
                    " channel"
                )
        return self


class Spectrum(Keys):
    """How samples become a log-mel spectrogram."""

    window: _Positive = Field(description="samples of a window")
    hop: _Positive = Field(description="samples from one window to the next")
    mels: _Positive = Field(description="bands")
    low: float = Field(0.0, description="lowest frequency in Hz")
    high: float = Field(0.0, description="highest frequency in Hz; 0: half the sampling rate")
    normalise: Literal["row", "loudness", "speech", "whisper", "power"] = Field(
        "row", description="what is made alike: see `Spectrum` in retrainer/tasks/_log_mel.py"
    )
    pad_seconds: float = Field(0.0, ge=0, description="silence fills rows up to this; 0: it does not")
    range_db: float = Field(0.0, ge=0, description="depth below the loudest band that counts; 0: no limit")
    level_dbfs: float = Field(0.0, le=0, description="of power: what quieter sounds are raised to")


class Audio(Keys):
    """`preprocessing` of sounds."""

    kind: Literal["audio"] = Field(description="the word audio")
    sampling_rate: _Positive = Field(description="samples a second that the network hears")
    max_seconds: Annotated[float, Field(gt=0)] = Field(description="the length that a sound may have")
    frame_samples: _Positive = Field(description="samples of sound to one output frame")
    input: Literal["samples", "log_mel"] = Field(description="what the network takes")
    normalise: bool | None = Field(
        None, description="of samples, and needed there: give each row mean 0 and deviation 1"
    )
    spectrum: Spectrum | None = Field(None, description="of log_mel, and needed there: how it is made")
    units: list[str] | None = Field(
        None,
        description="of CTC: the characters, in the order of the head's outputs, which begin with a blank",
    )
    words: list[str] | None = Field(None, description="of CTC: the only words that are written, if given")
    tokenizer: str | None = Field(None, description="of an encoder–decoder: the name of an asset")
    max_length: _Positive | None = Field(None, description="of an encoder–decoder: most tokens of a text")
    start: list[_Count] | None = Field(None, description="of an encoder–decoder: ids before a text")
    end: _Count | None = Field(None, description="of an encoder–decoder: the id behind a text")

    @model_validator(mode="after")
    def _what_its_input_needs(self) -> Self:
        needed = {"samples": "normalise", "log_mel": "spectrum"}[self.input]
        if getattr(self, needed) is None:
            meaning = type(self).model_fields[needed].description
            raise ValueError(f"'{needed}' is missing; add it: {meaning}")
        return self


class TextToText(Keys):
    """`preprocessing` of texts that become texts."""

    kind: Literal["text_to_text"] = Field(description="the word text_to_text")
    tokenizer: str = Field(description="the name of the asset that makes the source's tokens")
    target_tokenizer: str = Field(description="the name of the asset that makes the target's tokens")
    max_length: _Count = Field(description="the number of tokens that either side is cut to")
    pad_id: _Count = Field(description="the id of the token that fills shorter rows up")
    start: list[_Count] = Field(description="ids that the decoder is fed before a target")
    end: _Count = Field(description="the id behind a target")


# Another kind is a plug-in's, whose task and family agree upon its keys.
PREPROCESSING: dict[str, type[Keys]] = {
    "tokens": Tokens,
    "pixels": Pixels,
    "audio": Audio,
    "text_to_text": TextToText,
}
TOKENIZERS = ("tokenizer", "target_tokenizer")
