"""Two texts a row, source and target, as token ids; and the tokenizer that both share.

Legend: N rows, B rows of a batch, S padded length of the sources, T of the targets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from retrainer.tasks._tokens import Tokens, encode_texts

# A target that `loss` leaves out: PyTorch's own mark.
IGNORED = -100
# Rows of equal target length come together, among them those of equal source length: a decoder's token costs
# more than an encoder's. Lengths are below this number.
_LONGER_THAN_ANY = 1 << 20
_SPECIAL = ["<pad>", "<s>", "</s>"]


def train_tokenizer(texts: Iterable[str], size: int) -> bytes:
    """A byte-level BPE tokenizer (Sennrich et al. 2016, arXiv:1508.07909) as the content of `tokenizer.json`.

    No text is beyond it, whatever its letters, and the same texts in the same order give the same bytes.
    `size` counts all tokens, 256 bytes and 3 special ones among them. A text ends with `</s>`.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=_SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    end = _SPECIAL.index("</s>")
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", end)])
    return tokenizer.to_str().encode()


@lru_cache(maxsize=2)
def _loaded(tokenizer: bytes) -> Tokenizer:
    return Tokenizer.from_buffer(tokenizer)


def decode(ids: Tensor, preprocessing: dict[str, Any], assets: dict[str, bytes]) -> list[str]:
    """Token ids [B, T] → B texts, each up to its first end token."""
    tokenizer = _loaded(assets[preprocessing["target_tokenizer"]])
    end = int(preprocessing["end"])
    rows = [row[: row.index(end)] if end in row else row for row in ids.tolist()]
    return [text.strip() for text in tokenizer.decode_batch(rows, skip_special_tokens=True)]


@dataclass(frozen=True)
class TextPairs:
    """`target` is None where rows are only to be translated. `start` is what the decoder is fed first."""

    # Pairs of lengths are many: among the rows of 50 batches, sources of equally long targets differ so much
    # that a quarter of their tokens again is padding, among those of 2,500 it is 4% (Multi30k).
    window_batches: ClassVar[int] = 2500

    source: Tokens
    target: Tokens | None
    start: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.source)

    @property
    def nbytes(self) -> int:
        return self.source.nbytes + (0 if self.target is None else self.target.nbytes)

    @property
    def lengths(self) -> np.ndarray:
        """int64 [N]: rows with neighbouring numbers have both sides of similar length."""
        if self.target is None:
            return self.source.lengths
        return self.target.lengths * _LONGER_THAN_ANY + self.source.lengths

    def to(self, device: torch.device) -> TextPairs:
        target = None if self.target is None else self.target.to(device)
        return replace(self, source=self.source.to(device), target=target)

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """int64: `input_ids`, `attention_mask` [B, S]; with targets `decoder_input_ids`, `targets` [B, T].

        At each place the decoder gets the token before the target there. Padding is IGNORED in `targets`.
        """
        batch = self.source.batch(rows, always_mask=True)
        if self.target is None:
            return batch
        made = self.target.batch(rows, always_mask=True)
        ids, there = made["input_ids"], made["attention_mask"].bool()
        start = torch.tensor(self.start, device=ids.device).expand(len(ids), -1)
        ignored = torch.full((len(ids), len(self.start) - 1), IGNORED, device=ids.device)
        targets = ids.masked_fill(~there, IGNORED)
        return {
            **batch,
            "decoder_input_ids": torch.cat([start, ids[:, :-1]], dim=1),
            "targets": torch.cat([ignored, targets], dim=1),
        }


def encode_pairs(table: pa.Table, preprocessing: dict[str, Any], assets: dict[str, bytes]) -> TextPairs:
    """Columns `text` and, if there, `target_text` → tokens, each side cut to `max_length`."""
    one_text = preprocessing | {"pairs": False}
    source = encode_texts(table.select(["text"]), one_text, assets)
    target = None
    if "target_text" in table.column_names:
        theirs = one_text | {"tokenizer": preprocessing["target_tokenizer"]}
        texts = pa.table({"text": table["target_text"]})
        target = encode_texts(texts, theirs, assets)
    return TextPairs(source, target, tuple(int(token) for token in preprocessing["start"]))
