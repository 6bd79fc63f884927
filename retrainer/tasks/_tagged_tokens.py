"""Sentences whose words people have divided, tokenised once; each word's tag stands at its first token.

Legend: N rows, B rows of a batch, T padded tokens, W padded words, L padded characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from retrainer.errors import DataError, nearest
from retrainer.formats.words import word_spans, words_of
from retrainer.tasks._classes import row_name
from retrainer.tasks._device import send
from retrainer.tasks._tag_faults import MOST_CHARACTERS, too_long
from retrainer.tasks._tokens import Tokens, row_tokenizer

# A place that has no tag: PyTorch's own mark. In the place of a word that was not read.
IGNORED = -100
NOT_READ = -1
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class TaggedTokens:
    """Word w of all has its first token at `firsts[w]` of its row's tokens, or NOT_READ behind the cut.

    Row i has the words `words[i]` to `words[i + 1]`. `tags` are numbers of labels where rows have them; else
    they are to be predicted, and `texts` are kept for the answers.
    """

    tokens: Tokens
    firsts: np.ndarray  # int32 [all words]
    words: np.ndarray  # int64 [N + 1]
    tags: np.ndarray | None  # int32 [all words]
    texts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def nbytes(self) -> int:
        return self.tokens.nbytes + int(self.firsts.nbytes + (0 if self.tags is None else self.tags.nbytes))

    def to(self, device: torch.device) -> TaggedTokens:
        return replace(self, tokens=self.tokens.to(device))

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """`Tokens.batch`, and int64 `targets` [B, T]: a word's tag at its first token, IGNORED elsewhere.

        Rows to predict have in their place `firsts` [B, W], the `spans` of words [B, W, 2] in characters, and
        the `characters` [B, L] of the text; -1 fills up.
        """
        batch = self.tokens.batch(rows)
        made = self._asked(rows) if self.tags is None else self._targets(rows, batch["input_ids"].shape)
        return batch | {name: send(torch.from_numpy(one), self.tokens.device) for name, one in made.items()}

    def _targets(self, rows: np.ndarray, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        assert self.tags is not None
        targets: np.ndarray = np.full(shape, IGNORED, np.int64)
        for place, row in enumerate(rows):
            words = slice(self.words[row], self.words[row + 1])
            read = self.firsts[words] != NOT_READ
            targets[place, self.firsts[words][read]] = self.tags[words][read]
        return {"targets": targets}

    def _asked(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        spans = [word_spans(self.texts[row]) for row in rows]
        texts = [np.frombuffer(self.texts[row].encode("utf-32-le"), np.uint32) for row in rows]
        most, longest = (max(map(len, some), default=0) for some in (spans, texts))
        made: dict[str, np.ndarray] = {
            "firsts": np.full((len(rows), most), NOT_READ, np.int64),
            "spans": np.full((len(rows), most, 2), -1, np.int64),
            "characters": np.full((len(rows), longest), -1, np.int32),
        }
        for place, row in enumerate(rows):
            count = len(spans[place])
            made["firsts"][place, :count] = self.firsts[self.words[row] : self.words[row + 1]]
            made["spans"][place, :count] = np.array(spans[place], np.int64).reshape(-1, 2)
            made["characters"][place, : len(texts[place])] = texts[place]
        return made


def encode_tagged(
    table: pa.Table, preprocessing: dict[str, Any], assets: dict[str, bytes], labels: Sequence[str]
) -> TaggedTokens:
    """Columns `text` and, if there, `tags` → tokens cut to `max_length`, with the place of each word's first.

    Raises DataError for a row of more or fewer tags than words, for a tag that is none of `labels`, and for a
    text of more than MOST_CHARACTERS.
    """
    texts = [text or "" for text in table["text"].to_pylist()]
    for row, text in enumerate(texts):
        if len(text) > MOST_CHARACTERS:
            raise DataError(f"{row_name(table, row)}: {too_long(text)}; divide it into sentences")
    tokenizer = _word_tokenizer(preprocessing, assets)
    ids, lengths, firsts, counts = [], [0], [], [0]
    for start in range(0, len(texts), _ROWS_AT_ONCE):
        rows = [words_of(text) for text in texts[start : start + _ROWS_AT_ONCE]]
        for words, encoding in zip(rows, tokenizer.encode_batch(rows, is_pretokenized=True), strict=True):
            ids.append(encoding.ids)
            lengths.append(len(encoding))
            firsts.append(_first_tokens(encoding, len(words)))
            counts.append(len(words))
    offsets = np.cumsum(lengths, dtype=np.int64)
    pad_id, most = int(preprocessing["pad_id"]), int(preprocessing["max_length"])
    tokens = Tokens(_flat([*ids, [0]]), None, offsets, pad_id, most)  # padding reads position 0
    tags = _tag_numbers(table, counts[1:], labels) if "tags" in table.column_names else None
    kept = () if tags is not None else tuple(texts)
    return TaggedTokens(tokens, _flat(firsts), np.cumsum(counts, dtype=np.int64), tags, kept)


def _word_tokenizer(preprocessing: dict[str, Any], assets: dict[str, bytes]) -> Tokenizer:
    """The body's, which takes words; one of bytes is to see the space before each, as in a whole text."""
    tokenizer = row_tokenizer(preprocessing, assets)
    if hasattr(tokenizer.pre_tokenizer, "add_prefix_space"):
        tokenizer.pre_tokenizer.add_prefix_space = True
    return tokenizer


def _first_tokens(encoding: Encoding, count: int) -> list[int]:
    """The place of each word's first token; NOT_READ for those without one."""
    found = [NOT_READ] * count
    before = None
    for place, word in enumerate(encoding.word_ids):
        if word is not None and word != before and found[word] == NOT_READ:
            found[word] = place
        before = word
    return found


def _tag_numbers(table: pa.Table, counts: Sequence[int], labels: Sequence[str]) -> np.ndarray:
    """int32 [all words]."""
    numbers = {label: number for number, label in enumerate(labels)}
    rows = [tags or [] for tags in table["tags"].to_pylist()]
    for row, (tags, count) in enumerate(zip(rows, counts, strict=True)):
        if len(tags) != count:
            raise DataError(
                f"{row_name(table, row)} has {len(tags)} tags and {count} words; give each word one tag"
            )
        if strange := next((tag for tag in tags if tag not in numbers), None):
            raise DataError(
                f"{row_name(table, row)}: tag {strange!r} is no class here{nearest(strange, labels)}"
            )
    return _flat([[numbers[tag] for tag in tags] for tags in rows])


def _flat(sequences: Iterable[Iterable[int]]) -> np.ndarray:
    return np.fromiter(chain.from_iterable(sequences), dtype=np.int32)
