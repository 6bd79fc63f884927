"""Small real parts for the tests of training: rows, networks, and a run of the fit loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retrainer.models._network import Body, Network
from retrainer.settings import Compute, Task, Training
from retrainer.tasks import image_classification
from retrainer.tasks._heads import LinearHead
from retrainer.tasks._pixels import Pixels
from retrainer.tasks._tokens import Tokens
from retrainer.training.compute import resolve_compute
from retrainer.training.learner import Learner, Splits
from retrainer.training.loop import fit, own_randomness

PLAIN = resolve_compute(Compute(device="cpu", dtype="float32", threads=1))


def squares(count: int, seed: int = 0) -> tuple[Pixels, np.ndarray]:
    """Noisy 8×8 images, whose class says which half is brighter."""
    draws = np.random.default_rng(seed)
    targets = draws.integers(0, 2, count)
    pixels = draws.integers(0, 120, (count, 1, 8, 8))
    pixels[targets == 0, :, :4] += 60
    pixels[targets == 1, :, 4:] += 60
    return Pixels(torch.from_numpy(pixels.astype(np.uint8)), (0.4,), (0.2,)), targets.astype(np.int64)


def image_task(**options: Any) -> Any:
    return image_classification.make(Task(kind="image_classification", **options), ("top", "bottom"))


def dense() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())


def convolution() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d((2, 1)),
        nn.Flatten(),
        nn.BatchNorm1d(8),
    )


def network(module: Callable[[], nn.Module] = dense, width: int = 16, dropout: float = 0.0) -> Network:
    with own_randomness(0, torch.device("cpu"), "test"):
        body = Body(module(), lambda inner, batch: inner(batch["pixels"]), width, {}, {"kind": "pixels"})
        return Network(body, LinearHead(width, 2, dropout))


def convolutional(dropout: float = 0.0) -> Network:
    return network(convolution, 8, dropout)


def settings(**changes: Any) -> Training:
    return Training(**{"strategy": "scratch", "epochs": 3, "batch_size": 16, "learning_rate": 1e-2} | changes)


def ignore(epoch: int, figures: dict[str, float]) -> None:
    """Nobody watches."""


def trained(
    model: Network,
    training: Training,
    rows: tuple[Any, np.ndarray],
    validation: tuple[Any, np.ndarray] | None = None,
    task: Any = None,
    compute: Compute = PLAIN,
    on_epoch: Callable[[int, dict[str, float]], None] = ignore,
) -> list[dict[str, Any]]:
    learner = Learner(model, task or image_task(), training, compute)
    return fit(learner, Splits(rows, validation), on_epoch)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


EVERY_DRAW = {"shift": 1, "rotate_degrees": 5.0, "scale": 0.1, "flip": True}


def statistics(model: Network) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.body.named_buffers()}


def settled() -> Network:
    """A convolutional network whose BatchNorm has seen some data."""
    model = convolutional(dropout=0.2)
    trained(model, settings(epochs=1), squares(64, seed=5))
    return model


class Words(nn.Module):
    """Mean of word vectors, under the method by which Hugging Face encoders show their table."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({"words": nn.Embedding(200, 8, padding_idx=0), "mix": nn.Linear(8, 8)})
        if tied:
            self.output = nn.Linear(8, 200)
            self.output.weight = self.get_input_embeddings().weight

    def get_input_embeddings(self) -> nn.Embedding:
        return self.layers["words"]  # type: ignore[return-value]

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        mask = batch["attention_mask"][..., None]
        vectors = self.layers["words"](batch["input_ids"]) * mask
        return self.layers["mix"](vectors.sum(dim=1) / mask.sum(dim=1)).tanh()


def sentences(count: int, seed: int = 0) -> tuple[Tokens, np.ndarray]:
    """Random words below 40; a class has its own first word."""
    draws = np.random.default_rng(seed)
    lengths, targets = draws.integers(2, 9, count), draws.integers(0, 2, count)
    offsets = np.concatenate([[0], lengths.cumsum()])
    ids = draws.integers(10, 40, offsets[-1] + 1).astype(np.int32)
    ids[offsets[:-1]] = 5 + targets
    return Tokens(ids, None, offsets, pad_id=0, max_length=16), targets


def reader(tied: bool = False) -> Network:
    with own_randomness(0, torch.device("cpu"), "test"):
        body = Body(Words(tied), lambda inner, batch: inner(batch), 8, {}, {"kind": "tokens"})
        return Network(body, LinearHead(8, 2))


class Block(nn.Module):
    """x + relu(norm(x W)), as deep networks repeat it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 16)
        self.norm = nn.BatchNorm1d(16)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.inner(x)).relu()


def deep(blocks: int = 4) -> Network:
    def build() -> nn.Module:
        layers = nn.Sequential(*(Block() for _ in range(blocks)))
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), layers, nn.LayerNorm(16))

    model = network(build)
    trained(model, settings(epochs=1), squares(64, seed=5))
    return model
