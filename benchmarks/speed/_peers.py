"""The same training by the peers' own parts: torchvision's in a plain loop, timm's tuned for this machine.

Legend: B rows of a batch, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.speed._rows import initial
from benchmarks.speed.race import Figures, since_start

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Batches = Iterable[tuple["Tensor", "Tensor"]]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def train(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    batches: Batches,
    held_out: Batches,
    epochs: int,
    *,
    step_rate: Callable[[int, int], None] | None = None,
    smoothing: float = 0.0,
    bfloat16: bool = False,
    channels_last: bool = False,
    frozen: nn.Module | None = None,
    target: float | None = None,
    began: float,
) -> Figures:
    """An evaluation after each epoch; losses are summed on the way and read once an epoch.

    `step_rate(step, steps)` sets the rate of the step to come. `frozen` stays in eval mode.
    """
    import torch

    criterion = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
    samples, step, steps = 0, 0, epochs * len(batches)  # type: ignore[arg-type]
    accuracy, reached = 0.0, None
    for _ in range(epochs):
        network.train()
        if frozen is not None:
            frozen.eval()
        for images, labels in batches:
            if step_rate is not None:
                step_rate(step, steps)
            if channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16) if bfloat16 else nullcontext():
                loss = criterion(network(images), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            samples, step = samples + len(labels), step + 1
        accuracy = evaluate(network, held_out, bfloat16, channels_last)
        if target is not None and reached is None and accuracy >= target:
            reached = since_start()
    figures = Figures(samples=samples, seconds=time.perf_counter() - began, accuracy=accuracy)
    if target is not None:
        figures["to_target"] = reached
    return figures


def evaluate(network: nn.Module, held_out: Batches, bfloat16: bool, channels_last: bool) -> float:
    """Share of right answers, in eval mode."""
    import torch

    network.eval()
    right, rows = 0, 0
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16) if bfloat16 else nullcontext():
        for images, labels in held_out:
            if channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            right += int((network(images).argmax(1) == labels).sum())
            rows += len(labels)
    return right / rows


def torchvision_batches(
    work: Path, side: int, batch_size: int, workers: int, training: list[Any] | None = None
) -> tuple[Batches, Batches]:
    """PIL transforms in DataLoaders over the files; `training` are transforms before ToTensor."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    fit = [transforms.Resize(side), transforms.CenterCrop(side)]
    last = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]

    def loader(split: str, extra: list[Any]) -> Any:
        rows = datasets.ImageFolder(str(work / "files" / split), transforms.Compose([*fit, *extra, *last]))
        return DataLoader(
            rows, batch_size, shuffle=split == "train", num_workers=workers, persistent_workers=workers > 0
        )

    return loader("train", training or []), loader("validation", [])


def timm_batches(
    work: Path, side: int, batch_size: int, workers: int, **augmentation: Any
) -> tuple[Batches, Batches]:
    """timm's own loaders, without the prefetcher that is for GPUs alone."""
    import torch
    from timm.data import create_loader
    from timm.data.dataset_factory import create_dataset

    shared: dict[str, Any] = {
        "input_size": (3, side, side),
        "batch_size": batch_size,
        "num_workers": workers,
        "use_prefetcher": False,
        "device": torch.device("cpu"),
        "persistent_workers": workers > 0,
        "mean": MEAN,
        "std": STD,
    }
    rows = {split: create_dataset("", root=str(work / "files" / split)) for split in ("train", "validation")}
    training = create_loader(rows["train"], is_training=True, **shared, **augmentation)
    return training, create_loader(rows["validation"], crop_pct=1.0, **shared)


def begin_with(network: nn.Module, work: Path, seed: int) -> nn.Module:
    """First values by torchvision's names, which are timm's too; the order of rows follows `seed`."""
    import torch
    from safetensors.torch import load_file

    network.load_state_dict(load_file(initial(work, seed)))
    torch.manual_seed(seed)
    return network
