"""All that a training run changes as it goes: with it, a run that was killed goes on bit for bit.

What follows from the settings and the data alone (rows, schedule, frozen features) is made again instead.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from retrainer.settings import Training
from retrainer.training._distributed import ALONE, Group
from retrainer.training._pruning import Pruning
from retrainer.training._sharded import local, share_of, whole
from retrainer.training.loader import stream, stream_seed
from retrainer.training.optimiser import Optimiser

Snapshot = dict[str, Any]


class State:
    """The position in the run, the figures so far, and every tensor and generator that moves.

    `epoch` counts from 1 and is under way; `step` counts its updates that are done. `waiting` holds losses
    (and numbers of rows) not yet read from the device; `loss` and `rows` sum up those that are. A step's rows
    are computed in `micro_batches`. `average`, if any, follows the weights by `ema_decay`.
    """

    def __init__(
        self,
        trained: nn.Module,
        optimiser: Optimiser,
        training: Training,
        group: Group = ALONE,
    ) -> None:
        self.trained, self.optimiser, self.group = trained, optimiser, group
        self._seed = seed = training.seed
        self.order, self.views = stream(seed, "order"), stream(seed, "augmentation")
        self.history: list[dict[str, Any]] = []
        self.best: tuple[int, dict[str, Tensor]] | None = None
        self.micro_batches, self.updates = training.accumulate, 0
        self._decay = training.ema_decay
        self.average = Average(self._moving()) if self._decay else None
        self.pruning: Pruning | None = None
        self.seconds, self._since = 0.0, time.monotonic()
        self._begin_epoch(1)

    def _begin_epoch(self, number: int) -> None:
        self.epoch, self.step = number, 0
        self.loss, self.rows = 0.0, 0
        self.waiting: list[tuple[Tensor, int]] = []
        self._order_before = self.order.get_state()
        self.views_reached(self.mark_views(0))

    def mark_views(self, batch: int) -> Tensor:
        """A mark of `views` before the rows from `batch` on are made: from there, they come out the same.

        A checkpoint is the first process's: with others beside it, draws follow from the position alone.
        """
        if self.group.size > 1:
            self.views.manual_seed(self.position_seed("augmentation", batch))
        return self.views.get_state()

    def views_reached(self, mark: Tensor) -> None:
        """The rows made behind `mark` are in use now: those made ahead of them do not count yet."""
        self._views_before = mark

    def spent(self) -> float:
        """Seconds of training, those before a restart too."""
        return self.seconds + time.monotonic() - self._since

    def begin_step(self) -> None:
        if self.group.size > 1:
            torch.manual_seed(self.position_seed("dropout", self.step))

    def position_seed(self, purpose: str, step: int) -> int:
        """Of a step of this epoch, and of this process."""
        return stream_seed(self._seed, self.group.seed(f"{purpose} {self.epoch}/{step}"))

    def end_step(self) -> None:
        """The weights have just moved."""
        self.step, self.updates = self.step + 1, self.updates + 1
        if self.average is not None:
            # Slower only later: a short run would else keep what it began with.
            self.average.follow(min(self._decay, (1 + self.updates) / (10 + self.updates)))

    @contextmanager
    def kept_weights(self) -> Iterator[None]:
        """Inside, the network has the weights that would be kept: the average's, if there is one."""
        if self.average is None:
            yield
            return
        self.average.swap()
        try:
            yield
        finally:
            self.average.swap()

    def end_epoch(self, figures: dict[str, Any], keep_best: bool) -> None:
        """Writes the epoch into the history; its weights are kept when its validation loss is the lowest."""
        self.history.append({"epoch": self.epoch, **figures, "kept": False})
        lowest = self.history[self.best[0] - 1]["validation_loss"] if self.best else math.inf
        if keep_best and figures.get("validation_loss", math.inf) < lowest:
            # A copy, also of BatchNorm's statistics.
            with self.kept_weights():
                weights = {name: t.detach().clone() for name, t in self._moving().items()}
            self.best = (self.epoch, weights)
        self._begin_epoch(self.epoch + 1)

    def finish(self) -> list[dict[str, Any]]:
        """Puts the kept epoch's weights back; returns the history."""
        kept = len(self.history)
        if self.best is not None:
            kept = self.best[0]
            self._load(self.best[1])
        elif self.average is not None:
            self.average.swap()
        self.history[kept - 1]["kept"] = True
        return self.history

    def _moving(self) -> dict[str, Tensor]:
        """The weights that the optimiser holds, and all buffers."""
        held = {id(p) for p in self.optimiser.parameters}
        named = self.trained.state_dict(keep_vars=True)
        return {n: t for n, t in named.items() if not isinstance(t, nn.Parameter) or id(t) in held}

    def _load(self, weights: dict[str, Tensor]) -> None:
        moving = self._moving()
        assert weights.keys() == moving.keys()
        mine = {name: share_of(tensor, moving[name]) for name, tensor in weights.items()}
        self.trained.load_state_dict(mine, strict=False)

    def snapshot(self) -> Snapshot:
        """A copy in host memory, which training leaves alone. Taken between two steps.

        Where processes share the weights, all must ask for one, and the first one alone gets the tensors.
        """
        losses = [loss for loss, _ in self.waiting]
        trained, average = self.average.both() if self.average else (self._moving(), {})
        on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
        wanted = self.group.rank == 0 or not self.group.sharded
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "history": [dict(entry) for entry in self.history],
            "waiting": _copied(torch.stack(losses), wanted) if losses else torch.empty(0),
            "waiting_rows": [count for _, count in self.waiting],
            "trained": _copied(trained, wanted),
            "average": _copied(average, wanted),
            "seconds": self.spent(),
            "optimiser": _copied(self.optimiser.state_dict(), wanted),
            "order": self._order_before,
            "views": self._views_before,
            "dropout": torch.get_rng_state(),
            "dropout_gpu": torch.cuda.get_rng_state() if on_gpu else torch.empty(0),
            "pruning": _copied(self.pruning.snapshot(), wanted) if self.pruning else {},
            "best_epoch": self.best[0] if self.best else 0,
            # Never changed once it is there.
            "best": {name: whole(t).cpu() for name, t in self.best[1].items()} if self.best else {},
        }

    def restore(self, kept: Snapshot) -> None:
        """Takes up a snapshot. What is restored draws from PyTorch's global generators at once."""
        for name in _PLAIN:
            setattr(self, name, kept[name])
        self.history = kept["history"]
        device = next(self.trained.parameters()).device
        losses = kept["waiting"].to(device).unbind()
        self.waiting = list(zip(losses, kept["waiting_rows"], strict=True))
        self._load(kept["trained"])
        if self.average is not None:
            self.average.load(kept["average"])
        self.seconds, self._since = kept["seconds"], time.monotonic()
        self.optimiser.load_state_dict(kept["optimiser"])
        if self.pruning is not None:
            self.pruning.restore(kept["pruning"])
        self._order_before, self._views_before = kept["order"], kept["views"]
        self.order.set_state(self._order_before)
        self.views.set_state(self._views_before)
        torch.set_rng_state(kept["dropout"])
        if len(kept["dropout_gpu"]):
            torch.cuda.set_rng_state(kept["dropout_gpu"])
        if kept["best_epoch"]:
            self.best = (kept["best_epoch"], kept["best"])


_PLAIN = ("epoch", "step", "loss", "rows", "micro_batches", "updates")


class Average:
    """An exponential moving average of weights and statistics (Polyak and Juditsky 1992; as in timm)."""

    def __init__(self, moving: dict[str, Tensor]) -> None:
        self._names = list(moving)
        self._moving = [tensor.detach() for tensor in moving.values()]  # they share the network's memory
        self._average = [tensor.clone() for tensor in self._moving]
        self._swapped = False

    def follow(self, decay: float) -> None:
        pairs = list(zip(map(local, self._average), map(local, self._moving), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([average for average, _ in floats], [tensor for _, tensor in floats], 1 - decay)
        for average, tensor in pairs:
            if not average.is_floating_point():  # BatchNorm's counter of batches
                average.copy_(tensor)

    def swap(self) -> None:
        """Exchanges the values of the network and of the average."""
        for average, tensor in zip(self._average, self._moving, strict=True):
            aside = tensor.clone()
            tensor.copy_(average)
            average.copy_(aside)
        self._swapped = not self._swapped

    def both(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(the weights in training, their average), wherever each is now."""
        moving, average = (dict(zip(self._names, t, strict=True)) for t in (self._moving, self._average))
        return (average, moving) if self._swapped else (moving, average)

    def load(self, average: dict[str, Tensor]) -> None:
        for name, tensor in zip(self._names, self._average, strict=True):
            tensor.copy_(share_of(average[name], tensor))


def _copied(value: Any, wanted: bool) -> Any:
    """Tensors inside copied to host memory, in their own layout; the optimiser's kernels count on it.

    Those that are not `wanted` are only read, for the sake of processes that hold other parts of them.
    """
    if isinstance(value, Tensor):
        found = whole(value.detach())
        return found.to("cpu", copy=True) if wanted else torch.empty(0)
    if isinstance(value, dict):
        return {key: _copied(inner, wanted) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(inner, wanted) for inner in value)
    return value
