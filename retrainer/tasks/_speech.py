"""Sound and its transcripts as batches, and texts out of a network's outputs.

Legend: N rows, B rows of a batch, L units or tokens of a text, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from retrainer.errors import DataError
from retrainer.tasks._audio import Augmentation, Sound
from retrainer.tasks._classes import row_name
from retrainer.tasks._ctc import Lexicon, beam_search, frames_needed, greedy, padded, plain, unit_ids
from retrainer.tasks._device import send
from retrainer.tasks._waves import Waves, encode_audio

_IGNORED = -100  # no target, in PyTorch's cross entropy


@dataclass(frozen=True)
class Speech:
    """A split's sound, and the ids of its transcripts where it has some."""

    sound: Sound
    texts: list[np.ndarray] | None  # int64 [L] each

    def __len__(self) -> int:
        return len(self.sound)

    @property
    def nbytes(self) -> int:
        return self.sound.nbytes

    @property
    def waves(self) -> Waves:
        return self.sound.waves

    def to(self, device: torch.device) -> Speech:
        return replace(self, sound=self.sound.to(device))

    def batch(
        self, rows: np.ndarray, augmentation: Augmentation, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """`audio` and `lengths` as of `Sound.batch`; `targets` int64 [B, L], and for an encoder–decoder
        `decoder_input_ids` of the same shape.
        """
        batch = self.sound.batch(rows, augmentation, generator)
        if self.texts is None:
            return batch
        texts = [self.texts[row] for row in rows]
        if "units" in self.sound.preprocessing:
            ids = {"targets": padded(texts, 0)}
        else:
            ids = _teacher_forced(texts, self.sound.preprocessing)
        return batch | {name: send(tensor, self.sound.waves.device) for name, tensor in ids.items()}


def _teacher_forced(texts: list[np.ndarray], preprocessing: dict[str, Any]) -> dict[str, Tensor]:
    """Each token is predicted from those before it; the start's own tokens are given, not predicted."""
    start, end = preprocessing["start"], preprocessing["end"]
    inputs = [np.array([*start, *text]) for text in texts]
    hidden = [_IGNORED] * (len(start) - 1)
    targets = [np.array([*hidden, *text, end]) for text in texts]
    return {"decoder_input_ids": padded(inputs, end), "targets": padded(targets, _IGNORED)}


def encode_speech(table: pa.Table, preprocessing: dict[str, Any], assets: dict[str, bytes]) -> Speech:
    """Raises UserError naming a row whose sound cannot be read, or is too short for what is said in it."""
    waves = encode_audio(table, int(preprocessing["sampling_rate"]), float(preprocessing["max_seconds"]))
    sound = Sound(waves, preprocessing)
    if "target_text" not in table.column_names:
        return Speech(sound, None)
    texts = table["target_text"].to_pylist()
    if "units" not in preprocessing:
        return Speech(sound, _tokens(texts, preprocessing, assets))
    ids = unit_ids(texts, preprocessing["units"])
    frames: np.ndarray = waves.lengths // int(preprocessing["frame_samples"]) + 1
    for row, (unit, count) in enumerate(zip(ids, frames.tolist(), strict=True)):
        if frames_needed(unit) > count:
            raise DataError(
                f"{row_name(table, row)}: a transcript of {len(unit)} characters is longer than its sound,"
                f" which gives {count} frames: are the two of one row? else set a smaller"
                " backbone.stride or hop_seconds"
            )
    return Speech(sound, ids)


def _tokens(
    texts: list[str | None], preprocessing: dict[str, Any], assets: dict[str, bytes]
) -> list[np.ndarray]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_buffer(assets[preprocessing["tokenizer"]])
    encoded = tokenizer.encode_batch_fast([_spaced(text) for text in texts], add_special_tokens=False)
    return [np.array(one.ids[: preprocessing["max_length"] - 1], np.int64) for one in encoded]


def _spaced(text: str | None) -> str:
    """With a space before the first word, as Whisper writes it."""
    return f" {plain(text)}" if plain(text) else ""


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy [B], a token of the row. Logits [B, L, V], targets [B, L]."""
    from torch.nn.functional import cross_entropy

    each = cross_entropy(logits.float().transpose(1, 2), targets, ignore_index=_IGNORED, reduction="none")
    return each.sum(1) / (targets != _IGNORED).sum(1).clamp(min=1)


def write_texts(network: Any, batch: dict[str, Tensor], beams: int) -> list[str]:
    """A text for each row of the batch."""
    body = network.description
    if not len(batch["audio"]):
        return []
    if body.generate is not None:
        from tokenizers import Tokenizer

        options = {"beams": beams, "max_length": body.preprocessing["max_length"]}
        ids = body.generate(network.body, batch, options)
        tokenizer = Tokenizer.from_buffer(body.assets[body.preprocessing["tokenizer"]])
        return [text.strip() for text in tokenizer.decode_batch(ids.tolist(), skip_special_tokens=True)]
    logits, frames = network(batch)
    units, words = body.preprocessing["units"], body.preprocessing.get("words")
    if beams == 1:
        return greedy(logits, frames, units)
    return beam_search(logits, frames, units, beams, Lexicon(words) if words else None)
