"""Texts, tokenised once into one flat array. Legend: N rows, B rows of a batch, T padded length."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer
from torch import Tensor

from retrainer.errors import SettingError
from retrainer.tasks._device import send
from retrainer.tasks._storage import Parts

# GPUs like padded lengths that are multiples of this, and few of them. A CPU's time is in proportion to the
# tokens, whatever their number (measured: 30% less on texts of 11 tokens than with multiples of 8).
_GPU_MULTIPLE = 8
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Tokens:
    """Ragged rows: row i holds `ids[offsets[i]:offsets[i + 1]]`.

    `types` is 0 for the first and 1 for the second text of a pair, None where the model takes no such input.
    """

    ids: np.ndarray  # int32 [all tokens]
    types: np.ndarray | None  # int32 [all tokens]
    offsets: np.ndarray  # int64 [N + 1]
    pad_id: int
    max_length: int
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        return int(self.ids.nbytes + (0 if self.types is None else self.types.nbytes))

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def to(self, device: torch.device) -> Tokens:
        return replace(self, device=device)

    def batch(self, rows: np.ndarray, always_mask: bool = False) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` and, for pairs, `token_type_ids`: int64 [B, T].

        On a GPU a batch without padding has no mask, unless `always_mask`: attention is several times faster
        without one.
        """
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        columns = np.arange(self._padded(int(lengths.max(initial=1))))
        mask = columns < lengths[:, None]
        at = np.where(mask, starts[:, None] + columns, 0)
        batch = {"input_ids": np.where(mask, self.ids[at], self.pad_id), "attention_mask": mask}
        if not always_mask and self.device.type == "cuda" and mask.all():
            del batch["attention_mask"]
        if self.types is not None:
            batch["token_type_ids"] = np.where(mask, self.types[at], 0)
        tensors = {name: torch.from_numpy(array.astype(np.int64)) for name, array in batch.items()}
        return {name: send(tensor, self.device) for name, tensor in tensors.items()}

    def _padded(self, longest: int) -> int:
        """T for rows of at most `longest` tokens; never beyond what the model takes."""
        multiple = _GPU_MULTIPLE if self.device.type == "cuda" else 1
        return max(longest, min(-(-longest // multiple) * multiple, self.max_length))


def encode_texts(table: pa.Table, preprocessing: dict[str, Any], assets: dict[str, bytes]) -> Tokens:
    """Columns `text` and, if there, `text_pair` → tokens, cut to `max_length`.

    Each row alone decides its tokens: without a second text it is a single one. A pair is cut from its
    longer text first. An empty or missing text keeps the special tokens alone.
    """
    tokenizer = row_tokenizer(preprocessing, assets)
    with_types = bool(preprocessing["pairs"]) and "text_pair" in table.column_names
    ids, types = Parts(), Parts()
    lengths: list[np.ndarray] = [np.zeros(1, np.int64)]
    for start in range(0, len(table), _ROWS_AT_ONCE):
        encodings = tokenizer.encode_batch_fast(tokenizer_inputs(table.slice(start, _ROWS_AT_ONCE)))
        lengths.append(np.array([len(encoding) for encoding in encodings], np.int64))
        ids.append(_flat(encoding.ids for encoding in encodings))
        if with_types:
            types.append(_flat(encoding.type_ids for encoding in encodings))
    offsets = np.concatenate(lengths).cumsum()
    return Tokens(
        ids=_array(ids, offsets),
        types=_array(types, offsets) if with_types else None,
        offsets=offsets,
        pad_id=int(preprocessing["pad_id"]),
        max_length=int(preprocessing["max_length"]),
    )


def require_known(tokens: Tokens, tokenizer: bytes, most: float) -> None:
    """Raises UserError where more than the share `most` of the texts' tokens is the tokenizer's unknown one.

    It then belongs to other weights or to another language. Tokenizers of bytes know everything.
    """
    made, unknown = Tokenizer.from_buffer(tokenizer), _unknown_id(tokenizer)
    words = len(tokens.ids) - 1 - made.num_special_tokens_to_add(False) * len(tokens)
    if unknown is None or words <= 0:
        return
    share = np.count_nonzero(tokens.ids[:-1] == unknown) / words
    if share > most:
        raise SettingError(
            f"backbone.weights: their tokenizer does not know {share:.1%} of the tokens of these texts: it is"
            " of other weights or another language; choose weights that fit, or raise task.max_unknown"
        )


def _unknown_id(tokenizer: bytes) -> int | None:
    """The id that stands for what is not in the vocabulary; None where there is none."""
    model = json.loads(tokenizer)["model"]
    if model.get("unk_id") is not None:
        return int(model["unk_id"])
    unknown = model.get("unk_token")
    return None if unknown is None else Tokenizer.from_buffer(tokenizer).token_to_id(unknown)


def _array(parts: Parts, offsets: np.ndarray) -> np.ndarray:
    """int32 [all tokens + 1]: padding reads position 0, even where there are no rows."""
    parts.append(np.zeros(1, np.int32))
    return parts.array(np.int32, (int(offsets[-1]) + 1,))


def row_tokenizer(preprocessing: dict[str, Any], assets: dict[str, bytes]) -> Tokenizer:
    """The body's tokenizer; it cuts a row to what the model takes, and pads none."""
    tokenizer = Tokenizer.from_buffer(assets[preprocessing["tokenizer"]])
    tokenizer.no_padding()
    tokenizer.enable_truncation(int(preprocessing["max_length"]))
    return tokenizer


def tokenizer_inputs(table: pa.Table) -> list[str | tuple[str, str]]:
    """Each row's text, or pair of texts."""
    texts = [text or "" for text in table["text"].to_pylist()]
    if "text_pair" not in table.column_names:
        return texts
    seconds = table["text_pair"].to_pylist()
    return [text if pair is None else (text, pair) for text, pair in zip(texts, seconds, strict=True)]


def _flat(sequences: Any) -> np.ndarray:
    return np.fromiter(chain.from_iterable(sequences), dtype=np.int32)
