"""Order of rows and cutting of batches, the same for the same seed.

Legend: N rows of a split, B rows of a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from retrainer.tasks._device import send

# Rows are sorted by length within windows of so many batches: little padding, and a fresh mix each epoch.
WINDOW_BATCHES = 50
# Small rows are made for several steps at once: whole-array code costs the same for 30 rows as for 300.
_BYTES_AT_ONCE = 4 << 20
_BYTES_ON_DEVICE = 64 << 20

Batch = dict[str, Tensor]
_Made = tuple[Tensor | None, Batch, Tensor]  # the mark, input and targets of a group of batches


@dataclass(frozen=True)
class Rows:
    """A split as the loop sees it.

    `make(rows, generator)` gives the model's input, on the device; its `targets`, if it has any, stand for
    those of the rows.
    """

    make: Callable[[np.ndarray, torch.Generator | None], Batch]
    targets: Tensor  # [N, …], on the device
    lengths: np.ndarray | None  # [N], or None where all rows cost the same
    row_bytes: int  # of one row's input as float32
    make_ahead: bool = False  # whether a thread makes the next rows while a step runs
    window_batches: int = WINDOW_BATCHES  # of batches, within which rows are sorted by length

    def __len__(self) -> int:
        return len(self.targets)

    def load(self, numbers: np.ndarray, generator: torch.Generator | None) -> tuple[Batch, Tensor]:
        """Input and targets of the rows: the batch's own, where an augmentation changes them too."""
        made = self.make(numbers, generator) if len(numbers) else {}
        changed = made.pop("targets", None)
        if changed is None:
            changed = self.targets[send(torch.from_numpy(numbers), self.targets.device)]
        return made, changed


def stream(seed: int, purpose: str) -> torch.Generator:
    """A generator of its own per purpose: drawing more for one never moves another."""
    return torch.Generator().manual_seed(stream_seed(seed, purpose))


def stream_seed(seed: int, purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{purpose}/{seed}".encode()).digest()[:7], "big")


def batch_count(rows: int, batch_size: int) -> int:
    """Steps of an epoch: a single row left over joins the batch before it (see `shuffled_batches`)."""
    full, left = divmod(rows, batch_size)
    return max(1, full + (left > 1))


def shuffled_batches(
    count: int,
    batch_size: int,
    lengths: np.ndarray | None,
    generator: torch.Generator,
    classes: np.ndarray | None = None,
    window_batches: int = WINDOW_BATCHES,
) -> list[np.ndarray]:
    """One epoch's batches: every row once, in a fresh order, rows of similar length together.

    With `classes` [N] as many rows of each class instead, those of a rare one again and again.

    A last batch of one row joins the one before it: BatchNorm cannot train on a single row, and its
    gradient would weigh as much as a whole batch's.
    """
    if classes is None:
        order = torch.randperm(count, generator=generator).numpy()
    else:
        order = _balanced(classes, generator)
    if lengths is not None:
        order = _sort_in_windows(order, lengths, batch_size * window_batches)
    steps = batch_count(count, batch_size)
    ends = [*range(batch_size, batch_size * steps, batch_size), count]
    batches = [order[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    if lengths is None:
        return batches
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def _balanced(classes: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """N rows, as many of each class; none comes again before all of its class have come."""
    drawn = []
    present = np.unique(classes)
    for place, name in enumerate(present):
        rows = np.flatnonzero(classes == name)
        wanted = len(classes) // len(present) + (place < len(classes) % len(present))
        rounds = range(-(-wanted // len(rows)))
        shuffled = [rows[torch.randperm(len(rows), generator=generator).numpy()] for _ in rounds]
        drawn.append(np.concatenate([rows[:0], *shuffled])[:wanted])
    together = np.concatenate(drawn)
    return together[torch.randperm(len(together), generator=generator).numpy()]


def _sort_in_windows(order: np.ndarray, lengths: np.ndarray, window: int) -> np.ndarray:
    parts = [order[start : start + window] for start in range(0, len(order), window)]
    return np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in parts])


def sorted_batches(count: int, batch_size: int, lengths: np.ndarray | None) -> list[np.ndarray]:
    """Every row once, longest first where lengths differ: little padding, no late lack of memory."""
    order = np.arange(count) if lengths is None else np.argsort(-lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, count, batch_size)]


def load_batches(
    rows: Rows,
    batches: list[np.ndarray],
    generator: torch.Generator | None,
    done: int = 0,
    before_draws: Callable[[int], Tensor | None] = lambda _: None,
    reached: Callable[[Tensor | None], None] = lambda _: None,
) -> Generator[tuple[Batch, Tensor, np.ndarray]]:
    """(input, targets, row numbers) per batch; the input of several small batches is made at once.

    `before_draws` is called each time before the generator moves, with the number of the first batch that
    is then made; with the mark that it returns, `reached` is called when that batch's turn comes, which is
    later where rows are made ahead. With `done` batches behind it, the generator standing where the last
    mark that was reached says, the rest come out the same.
    """
    device = rows.targets.device
    budget = _BYTES_ON_DEVICE if device.type == "cuda" else _BYTES_AT_ONCE
    largest = max((len(numbers) for numbers in batches), default=1)
    together = 1 if rows.lengths is not None else max(1, budget // max(1, rows.row_bytes * largest))

    def make(first: int) -> _Made:
        mark = before_draws(first)
        return mark, *rows.load(np.concatenate(batches[first : first + together]), generator)

    groups = range(max(0, done - 1) // together * together, len(batches), together)
    with closing(_results(make, groups, rows.make_ahead)) as results:
        for first, (mark, made, targets) in zip(groups, results, strict=True):
            reached(mark)
            start = 0
            for place, numbers in enumerate(batches[first : first + together], start=first):
                part = slice(start, start + len(numbers))
                if place >= done:
                    yield {name: tensor[part] for name, tensor in made.items()}, targets[part], numbers
                start = part.stop


def _results(make: Callable[[int], _Made], groups: Iterable[int], ahead: bool) -> Generator[_Made]:
    """What `make` gives for each group, in order; with `ahead` a thread makes one while the last is used.

    What `make` raises comes out in the group's turn. The thread ends with this generator.
    """
    if not ahead:
        yield from map(make, groups)
        return
    with ThreadPoolExecutor(1, "loader") as thread:
        coming: Future[_Made] | None = None
        for group in groups:
            now, coming = coming, thread.submit(make, group)
            if now is not None:
                yield now.result()
        if coming is not None:
            yield coming.result()


def evaluation_batch_size(rows: Rows) -> int:
    """Rows of a batch without gradients: few that a CPU's caches can hold, many for an accelerator."""
    if rows.targets.device.type == "cuda":
        return int(np.clip((256 << 20) // max(1, rows.row_bytes), 64, 1024))
    return 64 if rows.lengths is not None else int(np.clip((4 << 20) // max(1, rows.row_bytes), 8, 512))
