"""Prompts and their answers as token ids, of which the answers alone count.

A prompt and its answer are tokenised apart, so that a model is trained on the very tokens that it is given
when it answers. Legend: N rows, B rows of a batch, T padded tokens, A padded tokens of an answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer
from torch import Tensor

from retrainer.tasks._chat import Message, conversation, render
from retrainer.tasks._cross_entropy import CrossEntropy
from retrainer.tasks._device import send

# A target that `loss` leaves out: PyTorch's own mark.
IGNORED = -100
_ROWS_AT_ONCE = 4096
# Of logits that are held at once while answers are scored, in numbers.
_LOGITS_AT_ONCE = 1 << 25


class Limits(Protocol):
    """Of the task's options."""

    max_length: int
    max_new_tokens: int
    system: str
    messages: bool


@dataclass(frozen=True)
class Form:
    """How a row becomes tokens. `template`: "" where the weights have none."""

    tokenizer: Tokenizer
    template: str
    marks: dict[str, str]
    end: int
    pad: int
    limits: Limits

    @cached_property
    def specials(self) -> re.Pattern[str]:
        added = self.tokenizer.get_added_tokens_decoder().values()
        names = sorted((token.content for token in added if token.special and token.content), key=len)
        return re.compile("|".join(map(_with_repeats, reversed(names))) or r"(?!)")

    @classmethod
    def of(cls, preprocessing: dict[str, Any], assets: dict[str, bytes], limits: Limits) -> Form:
        name = preprocessing["chat_template"]
        return cls(
            _loaded(assets[preprocessing["tokenizer"]]),
            assets[name].decode() if name else "",
            {mark: preprocessing[mark] for mark in ("bos_token", "eos_token")},
            int(preprocessing["end"]),
            int(preprocessing["pad_id"]),
            limits,
        )

    def prompt(self, text: str, where: str) -> str:
        """As the model is given it."""
        messages = self.messages(text, where)
        if self.template:
            return render(self.template, messages, self.marks)
        said = "\n\n".join(message["content"] for message in messages)
        return f"{self.marks['bos_token']}{said}"

    def messages(self, text: str, where: str) -> list[Message]:
        said = conversation(text, where) if self.limits.messages else [{"role": "user", "content": text}]
        said = [message | {"content": self.plain(message["content"])} for message in said]
        if self.limits.system and said[0]["role"] != "system":
            said = [{"role": "system", "content": self.limits.system}, *said]
        return said

    def answer(self, text: str, where: str, prompt: str, answer: str) -> str:
        """What the template makes of an answer, up to its end: some strip it, or write a mark before it."""
        answer = self.plain(answer)
        if not self.template:
            return answer
        said = [*self.messages(text, where), {"role": "assistant", "content": answer}]
        whole = render(self.template, said, self.marks, answered=True)
        ends = self.tokenizer.id_to_token(self.end)
        if ends is None or not whole.startswith(prompt):
            return answer
        return whole[len(prompt) :].partition(ends)[0]

    def plain(self, text: str) -> str:
        """A row's own text without the tokenizer's marks, by which it could pass for the template's words.

        Each loses its first letter and all equal ones before it, again and again while one is left: one by
        one, a long text of that letter would take the square of its length.
        """
        while (fewer := self.specials.sub(lambda found: found[0].lstrip(found[0][0]), text)) != text:
            text = fewer
        return text

    def ids(self, texts: list[str]) -> list[list[int]]:
        return [one.ids for one in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def _with_repeats(mark: str) -> str:
    """A pattern of the mark, and of all of its first letter that stand before it."""
    first, rest = re.escape(mark[0]), mark.lstrip(mark[0])
    return f"(?<!{first}){first}{{{len(mark) - len(rest)},}}{re.escape(rest)}"


@lru_cache(maxsize=2)
def _loaded(tokenizer: bytes) -> Tokenizer:
    made = Tokenizer.from_buffer(tokenizer)
    made.no_padding()
    made.no_truncation()
    return made


def decode(ids: Tensor, preprocessing: dict[str, Any], assets: dict[str, bytes]) -> list[str]:
    """Token ids [B, T] → B texts, each up to its first end token, without the marks that it may have."""
    tokenizer, end = _loaded(assets[preprocessing["tokenizer"]]), int(preprocessing["end"])
    rows = [row[: row.index(end)] if end in row else row for row in ids.tolist()]
    return [text.strip() for text in tokenizer.decode_batch(rows, skip_special_tokens=True)]


@dataclass(frozen=True)
class Prompts:
    """Row i's prompt is the first `prompts[i]` of `ids[offsets[i]:offsets[i + 1]]`, its answer the others.

    `answered`: whether the rows have answers; each ends with the end token, unless it was cut.
    """

    ids: np.ndarray  # int32 [all tokens + 1]
    offsets: np.ndarray  # int64 [N + 1]
    prompts: np.ndarray  # int64 [N]
    answered: bool
    pad: int
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def nbytes(self) -> int:
        return int(self.ids.nbytes)

    @property
    def lengths(self) -> np.ndarray:
        """int64 [N]: tokens that the network reads of a row; nothing follows an answer's last one."""
        return np.diff(self.offsets) - self.answered

    def to(self, device: torch.device) -> Prompts:
        return replace(self, device=device)

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """int64. With answers `input_ids` [B, T], padded behind, and `at` and `targets` [B, A]: the places
        whose next token counts, and that token. Without, `input_ids` padded before, and `attention_mask`.
        """
        made = self._answers(rows) if self.answered else self._before(rows)
        return {name: send(torch.from_numpy(array), self.device) for name, array in made.items()}

    def _answers(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        starts, lengths, prompts = self.offsets[rows], self.lengths[rows], self.prompts[rows]
        columns = np.arange(int(lengths.max(initial=1)))
        there = columns < lengths[:, None]
        ids = np.where(there, self.ids[np.where(there, starts[:, None] + columns, 0)], self.pad)
        answers = lengths + 1 - prompts
        columns = np.arange(int(answers.max(initial=1)))
        there = columns < answers[:, None]
        at = np.where(there, prompts[:, None] - 1 + columns, 0)
        targets = self.ids[np.where(there, starts[:, None] + at + 1, 0)]
        found = {"input_ids": ids, "at": at, "targets": np.where(there, targets, IGNORED)}
        return {name: array.astype(np.int64) for name, array in found.items()}

    def _before(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        ends, lengths = self.offsets[rows + 1], self.lengths[rows]
        widest = int(lengths.max(initial=1))
        columns = np.arange(-widest, 0)
        there = columns >= -lengths[:, None]
        ids = np.where(there, self.ids[np.where(there, ends[:, None] + columns, 0)], self.pad)
        return {"input_ids": ids.astype(np.int64), "attention_mask": there.astype(np.int64)}


def encode_prompts(table: pa.Table, form: Form) -> Prompts:
    """Columns `text` and, if there, `target_text` → tokens, within the task's limits."""
    answered = "target_text" in table.column_names
    rows: list[list[int]] = []
    prompts: list[int] = []
    for start in range(0, len(table), _ROWS_AT_ONCE):
        part = table.slice(start, _ROWS_AT_ONCE)
        given, answers = _encoded(part, form, answered)
        prompts += [len(prompt) for prompt in given]
        rows += [prompt + answer for prompt, answer in zip(given, answers, strict=True)]
    offsets = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
    ids = np.fromiter(chain(chain.from_iterable(rows), [0]), np.int32, int(offsets[-1]) + 1)
    return Prompts(ids, offsets, np.array(prompts, np.int64), answered, form.pad)


def _encoded(table: pa.Table, form: Form, answered: bool) -> tuple[list[list[int]], list[list[int]]]:
    """Of each row, the tokens of its prompt and of its answer."""
    texts = [text or "" for text in table["text"].to_pylist()]
    places = _places(table)
    given = [form.prompt(text, where) for text, where in zip(texts, places, strict=True)]
    prompts = [_cut(ids, form) for ids in form.ids(given)]
    if not answered:
        return prompts, [[] for _ in prompts]
    expected = [text or "" for text in table["target_text"].to_pylist()]
    written = [form.answer(*row) for row in zip(texts, places, given, expected, strict=True)]
    most = form.limits.max_new_tokens
    return prompts, [[*ids, form.end][:most] for ids in form.ids(written)]


def _places(table: pa.Table) -> list[str]:
    """How messages name each row."""
    if "origin" in table.column_names:
        return [str(origin) for origin in table["origin"].to_pylist()]
    return [f"row {number}" for number in range(len(table))]


def _cut(ids: list[int], form: Form) -> list[int]:
    """A prompt without its middle where it is too long: the template's own words stand at both ends."""
    room = form.limits.max_length - form.limits.max_new_tokens
    if len(ids) <= room:
        return ids or [form.end]
    return [*ids[: room // 2], *ids[len(ids) - (room - room // 2) :]]


def scores(network: Any, batch: dict[str, Tensor]) -> pa.Table:
    """`nats`: what the model is surprised by each row's expected answer, and its `tokens`. `whole`: whether
    it was not cut."""
    targets = batch["targets"]
    counted = (targets >= 0).sum(1)
    last = targets.gather(1, (counted - 1).clamp(min=0)[:, None])[:, 0]
    whole = last == int(network.description.preprocessing["end"])
    nats: Tensor = torch.zeros(len(targets), dtype=torch.float64)
    width = network.body.get_input_embeddings().num_embeddings
    step = max(1, _LOGITS_AT_ONCE // max(1, targets.shape[1] * width))
    for start in range(0, len(targets), step):
        part = {name: tensor[start : start + step] for name, tensor in batch.items() if name != "targets"}
        logits, truth = network(part), targets[start : start + step]
        each = CrossEntropy.apply(logits.flatten(0, 1).float(), truth.flatten(), 0.0)
        nats[start : start + step] = each.view(truth.shape).double().sum(1).cpu()
    columns = {"nats": nats.numpy(), "tokens": counted.double().cpu().numpy(), "whole": whole.cpu().numpy()}
    return pa.table(columns)


def comparable(first: pa.Table, second: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Both models' nats, of the same texts, over the first one's tokens.

    Of an answer that either has cut, nobody knows how much of it the other one's nats are of: it counts for
    neither.
    """
    kept: np.ndarray = np.ones(len(first), bool)
    for one in (first, second):
        if "whole" in one.column_names:
            kept &= one["whole"].to_numpy()
    tokens = first["tokens"].to_numpy() * kept
    if not kept.all():
        first = _with(first, "tokens", tokens)
        first, second = (_with(one, "nats", one["nats"].to_numpy() * kept) for one in (first, second))
    return first, _with(second, "tokens", tokens)


def _with(table: pa.Table, name: str, values: np.ndarray) -> pa.Table:
    if name not in table.column_names:
        return table.append_column(name, pa.array(values))
    return table.set_column(table.column_names.index(name), name, pa.array(values))
