"""torchvision's way to CIFAR-10's JPEG files: workers, bfloat16 on a GPU, channels last, AdamW."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
SETTINGS: dict[str, Any] = {
    "network": "resnet18", "stem": "small", "size": 32, "epochs": 16, "batch": 512,
    "rate": 5e-3, "decay": 0.1, "warmup": 0.25,
}  # fmt: skip


def train(directory: str, settings: dict[str, Any], seed: int) -> float:
    """The accuracy on the test rows behind the last epoch."""
    import torch
    from torch.nn import functional

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = True
    loaders = {name: _loader(Path(directory, name), settings, device) for name in ("train", "test")}
    network = _network(settings, len(loaders["train"].dataset.classes))
    network = network.to(device=device, memory_format=torch.channels_last)
    rate, decay = settings["rate"], settings["decay"]
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, epochs=settings["epochs"], steps_per_epoch=max(1, len(loaders["train"])),
        pct_start=settings["warmup"], anneal_strategy="linear",
    )  # fmt: skip
    network.train()
    for _ in range(settings["epochs"]):
        for pixels, targets in loaders["train"]:
            pixels = pixels.to(device, non_blocking=True, memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = functional.cross_entropy(network(pixels), targets.to(device), label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    network.eval()
    right = 0
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        for pixels, targets in loaders["test"]:
            right += int((network(pixels.to(device)).argmax(1).cpu() == targets).sum())
    return right / len(loaders["test"].dataset)


def _loader(folder: Path, settings: dict[str, Any], device: Any) -> Any:
    import torch
    from torchvision import datasets, transforms

    train, size = folder.name == "train", settings["size"]
    moved = [transforms.RandomCrop(size, size // 8), transforms.RandomHorizontalFlip()] if train else []
    steps = [transforms.Resize(size), *moved, transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    workers = min(16, os.cpu_count() or 1) if device.type == "cuda" else 0
    more = {"num_workers": workers, "pin_memory": workers > 0, "persistent_workers": workers > 0}
    rows = datasets.ImageFolder(str(folder), transforms.Compose(steps))
    return torch.utils.data.DataLoader(rows, settings["batch"], shuffle=train, drop_last=train, **more)


def _network(settings: dict[str, Any], classes: int) -> Any:
    from torch import nn
    from torchvision import models

    network = models.get_model(settings["network"], num_classes=classes)
    if settings["stem"] == "small":
        network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return network
