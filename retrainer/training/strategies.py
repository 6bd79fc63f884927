"""What is trained, by one word of the settings (`training.strategy`):

    scratch          everything, from random values
    frozen           a new head on a frozen body, which sees every row once (or, where the task keeps no
                     features, in every step)
    head-then-full   first the head alone, as in `frozen`, then everything
    last-n           the head and the last blocks of the body
    lora             the head and small matrices beside the body's layers
    full             everything, from given weights

Legend: B rows of a batch, N rows of a split, D feature width, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retrainer.errors import SettingError
from retrainer.models._blocks import depths
from retrainer.models._network import Network
from retrainer.settings import Training
from retrainer.tasks._protocol import Task
from retrainer.training._compiled import compiled
from retrainer.training._recompute import recomputed
from retrainer.training._vocabulary import words_in_use
from retrainer.training.embedding import embed
from retrainer.training.groups import Groups, head_groups, network_groups
from retrainer.training.learner import Data, Learner, Splits
from retrainer.training.loader import WINDOW_BATCHES, Batch, Rows, batch_count

_Norm = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class Phase:
    """Some epochs of a run, up to `last`, in which the same is trained on the same input.

    `active` modules are in training mode, but for those in `still`; all others are in eval mode, so that
    no statistic of what is frozen moves.
    """

    first: int
    last: int
    forward: Callable[[Batch], Any]  # in training
    answer: Callable[[Batch], Any]
    train: Rows
    validation: Rows | None
    active: Sequence[nn.Module]
    still: Sequence[nn.Module] = ()

    @cached_property
    def fewest_rows(self) -> int:
        """That a pass can train on: BatchNorm needs two."""
        training = {part for module in self.active for part in module.modules()} - set(self.still)
        return 2 if any(isinstance(part, _Norm) for part in training) else 1

    def set_mode(self, trained: nn.Module) -> None:
        trained.eval()
        for module in self.active:
            module.train()
        for module in self.still:
            module.eval()


@dataclass(frozen=True)
class Plan:
    """All that the loop needs of a strategy. `trained` alone switches mode, moves and is kept or restored.

    `phases(epoch)` gives those that are left when `epoch` is next; each is made when it begins.
    """

    trained: nn.Module
    groups: Groups  # of the optimiser; `peak` is the group's highest learning rate
    phases: Callable[[int], Iterator[Phase]]


@contextmanager
def replaced_for_training(learner: Learner, splits: Splits, device: torch.device) -> Iterator[Learner]:
    """While a network trains, smaller or further parts may stand in for some of its own.

    Gives the learner to train: the same, or one with a network that processes share.
    """
    network, training = learner.network, learner.training
    private = bool(training.privacy.epsilon)
    with ExitStack() as stack:
        if training.strategy == "lora":
            from retrainer.training._lora import adapted

            stack.enter_context(adapted(network.description, training))
        elif training.strategy not in ("frozen", "last-n") and not private:
            # A frozen table costs nothing. Of a private one each word gets noise: else it would be seen which
            # words the rows have.
            stack.enter_context(words_in_use(network.body, learner.task, splits.encoded))
        if training.packing:
            from retrainer.training._packed import packed

            stack.enter_context(packed(network.description, *_unequal_texts(learner, splits.train, device)))
        if training.checkpoint_activations:
            stack.enter_context(recomputed(network.description))
        if private:
            from retrainer.training._row_gradients import gradients_of_rows

            stack.enter_context(gradients_of_rows(network, training))
        if learner.compute.fsdp:
            from retrainer.training._sharded import sharded

            learner = stack.enter_context(sharded(learner, device))
        yield learner


def _unequal_texts(learner: Learner, train: Data, device: torch.device) -> tuple[Batch, Tensor]:
    """The longest and the shortest text and one between as a batch, and their lengths."""
    lengths = learner.task.lengths(train[0])
    assert lengths is not None
    rows = np.argsort(lengths, kind="stable")[[-1, 0, len(lengths) // 2]]
    place = torch.device("cpu") if learner.compute.fsdp else device
    return learner.task.batch(train[0].to(place), rows, None), torch.from_numpy(lengths[rows])


def plan(learner: Learner, splits: Splits, device: torch.device) -> Plan:
    """The strategy's parameters and phases. The network is on `device` already, its stand-ins in place."""
    network, training = learner.network, learner.training
    phases = _Phases.of(learner, splits, device)
    if training.strategy == "frozen":
        made = phases.head_alone(training.epochs)
        network.body.requires_grad_(False)
        return Plan(network.head, head_groups(network, training), lambda _: iter([made]))
    if training.strategy == "last-n":
        whole = phases.on_rows(1, [*_last_blocks(network, training), network.head])
    elif training.strategy == "lora":
        norms = [part for part in network.body.modules() if isinstance(part, _Norm)]
        whole = phases.on_rows(1, [network], norms)
    else:
        whole = phases.on_rows(1, [network])
    _refuse_single_rows(whole, training)
    following = phases.first_the_head if training.strategy == "head-then-full" else lambda _: iter([whole])
    return Plan(network, network_groups(network, training), following)


@dataclass(frozen=True)
class _Phases:
    """Makes the phases of a plan from the rows on the device."""

    learner: Learner
    train: Rows
    validation: Rows | None

    @classmethod
    def of(cls, learner: Learner, splits: Splits, device: torch.device) -> _Phases:
        def placed(data: Data) -> Rows:
            return placed_rows(learner.task, data, learner.network, device)

        train, validation = placed(splits.train), splits.validation
        if learner.training.packing:
            train = _with_lengths(train)
        return cls(learner, train, None if validation is None else placed(validation))

    def on_rows(self, first: int, active: Sequence[nn.Module], still: Sequence[nn.Module] = ()) -> Phase:
        """The whole network on the rows themselves, up to the last epoch."""
        network, last = self.learner.network, self.learner.training.epochs
        # Compiled, a network has no hooks by which single rows' gradients are found.
        private = bool(self.learner.training.privacy.epsilon)
        forward = network if private else compiled(self.learner, self.train)
        return Phase(first, last, forward, network, self.train, self.validation, active, still)

    def head_alone(self, last: int) -> Phase:
        """The head on features, kept where the task has them; else the body runs in every step."""
        network = self.learner.network
        head = network.head

        def on_features(batch: Batch) -> Any:
            return head(batch["features"], batch)

        def above_still_body(batch: Batch) -> Any:
            with torch.no_grad():
                features = network.features(batch)
            return head(features, batch)

        if "features" not in self.learner.task.abilities:
            network.eval()
            return Phase(1, last, above_still_body, network, self.train, self.validation, [head])
        rows = embed(self.learner, self.train, self.validation)
        return Phase(1, last, on_features, on_features, *rows, [head])

    def first_the_head(self, epoch: int) -> Iterator[Phase]:
        head_epochs = self.learner.training.head_epochs
        if epoch <= head_epochs:
            yield self.head_alone(head_epochs)
        yield self.on_rows(head_epochs + 1, [self.learner.network])


def memory_format(network: nn.Module) -> torch.memory_format:
    """Convolutions run fastest with the channels innermost; other networks do not care."""
    has_convolution = any(isinstance(module, nn.Conv2d) for module in network.modules())
    return torch.channels_last if has_convolution else torch.contiguous_format


def placed_rows(task: Task, data: Data, network: Network, device: torch.device) -> Rows:
    encoded, targets = data
    placed = encoded.to(device)
    layout = memory_format(network)

    def make(rows: np.ndarray, generator: torch.Generator | None) -> Batch:
        batch = task.batch(placed, rows, generator)
        return {name: _lay_out(tensor, device, layout) for name, tensor in batch.items()}

    row_bytes = 4 * encoded.nbytes // max(1, len(encoded))
    ahead = bool(getattr(placed, "make_ahead", False))
    window = int(getattr(placed, "window_batches", WINDOW_BATCHES))
    targets_there = torch.from_numpy(targets).to(device)
    return Rows(make, targets_there, task.lengths(encoded), row_bytes, ahead, window)


def _with_lengths(rows: Rows) -> Rows:
    """The same, whose batches tell in host memory how many tokens each text has."""
    lengths, plain = rows.lengths, rows.make
    assert lengths is not None

    def make(numbers: np.ndarray, generator: torch.Generator | None) -> Batch:
        return plain(numbers, generator) | {"lengths": torch.from_numpy(lengths[numbers])}

    return replace(rows, make=make)


def _lay_out(tensor: Tensor, device: torch.device, layout: torch.memory_format) -> Tensor:
    tensor = tensor.to(device)
    return tensor.contiguous(memory_format=layout) if tensor.dim() == 4 else tensor


def _last_blocks(network: Network, training: Training) -> list[nn.Module]:
    """Freezes all of the body but its last blocks and what comes after them; returns the modules that train.

    Raises UserError when the body has fewer blocks.
    """
    body = network.body
    names = network.description.blocks(body)
    if training.last_blocks > len(names):
        raise SettingError(
            f"training.last_blocks: {training.last_blocks} of this backbone's {len(names)} blocks; set fewer,"
            " or training.strategy: full"
        )
    begin = len(names) - training.last_blocks
    for name, depth in depths(body, names).items():
        body.get_parameter(name).requires_grad_(depth > begin)
    behind = [part for part in body.modules() if any(p.requires_grad for p in part.parameters(recurse=False))]
    return [body.get_submodule(name) for name in names[begin:]] + behind


def _refuse_single_rows(phase: Phase, training: Training) -> None:
    """BatchNorm has no spread to normalise by in a batch of one row."""
    rows = len(phase.train)
    if phase.fewest_rows == 1:
        return
    if rows // batch_count(rows, training.batch_size) > 1:
        return
    cure = "give more training rows" if rows == 1 else "set 2 or more"
    raise SettingError(f"training.batch_size: BatchNorm cannot train on batches of a single row; {cure}")
