"""Peers on the same rows and batches, through their own public API, as shipped and tuned (see README.md)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.gpu._jobs import MEAN, STD, Job, bert_config, images, targets, token_ids
from benchmarks.gpu._measure import Speed, Window, device

# Of the budget, to warm up in.
_WARM = 0.25


def bfloat16() -> AbstractContextManager[Any]:
    return torch.autocast(device().type, dtype=torch.bfloat16)


# --- images --------------------------------------------------------------------------------------------


class Resident:
    """Endless batches on the device: uint8 [B, 3, H, W], half of them mirrored, and classes [B]."""

    def __init__(self, job: Job, seed: int) -> None:
        self._job = job
        self._images = images(job, seed).to(device())
        self._targets = torch.from_numpy(targets(job, seed)).to(device())

    def __len__(self) -> int:
        return self._job.rows // self._job.batch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            for rows in torch.randperm(self._job.rows, device=device()).split(self._job.batch):
                picked = self._images[rows]
                mirrored = torch.rand(len(rows), 1, 1, 1, device=device()) < 0.5
                yield torch.where(mirrored, picked.flip(3), picked), self._targets[rows]


def _normalised(pixels: Tensor) -> Tensor:
    mean, std = (torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) * 255 for v in (MEAN, STD))
    return (pixels.float() - mean) / std


def torchvision_shipped(job: Job, budget: float, seed: int) -> Speed:
    """The step of torchvision's reference training by its defaults: float32, SGD, figures each step."""
    network, batches = _torchvision(job, seed), Resident(job, seed)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    window = Window(budget, _WARM * budget)
    for pixels, wanted in batches:
        output = network(_normalised(pixels))
        loss = functional.cross_entropy(output, wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        best = output.topk(5, 1).indices
        for count in (1, 5):
            (best[:, :count] == wanted[:, None]).any(1).float().mean().item()
        loss.item()
        if window.passed(len(wanted)):
            break
    return _seen(window)


def torchvision_tuned(job: Job, budget: float, seed: int) -> Speed:
    """The same loop in bfloat16, channels last, with cuDNN's search, fused AdamW and nothing read back."""
    torch.backends.cudnn.benchmark = True
    network = _torchvision(job, seed).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    return _image_loop(network, Resident(job, seed), optimiser, budget, _normalised)


def _torchvision(job: Job, seed: int) -> nn.Module:
    from torchvision import models

    torch.manual_seed(seed)
    network: nn.Module = models.get_model(job.network, num_classes=job.classes)
    return network.to(device()).train()


def timm_tuned(job: Job, budget: float, seed: int) -> Speed:
    """timm's model, optimiser and prefetching loader, with the options of its train.py that make it fast."""
    import timm
    from timm.data.loader import PrefetchLoader
    from timm.optim import create_optimizer_v2

    torch.backends.cudnn.benchmark = True
    torch.manual_seed(seed)
    network = timm.create_model(job.network, num_classes=job.classes)
    network = network.to(device=device(), memory_format=torch.channels_last).train()
    optimiser = create_optimizer_v2(network, opt="adamw", lr=1e-4, fused=True)
    batches = PrefetchLoader(Resident(job, seed), MEAN, STD, device=device())
    return _image_loop(network, batches, optimiser, budget, lambda pixels: pixels)


def _image_loop(
    network: nn.Module,
    batches: Any,
    optimiser: torch.optim.Optimizer,
    budget: float,
    prepare: Callable[[Tensor], Tensor],
) -> Speed:
    window = Window(budget, _WARM * budget)
    for pixels, wanted in batches:
        with bfloat16():
            output = network(prepare(pixels).contiguous(memory_format=torch.channels_last))
            loss = functional.cross_entropy(output, wanted)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if window.passed(len(wanted)):
            break
    return _seen(window)


# --- texts ---------------------------------------------------------------------------------------------


def trainer_shipped(job: Job, budget: float, seed: int) -> Speed:
    return _trainer(job, budget, seed, {})


def trainer_tuned(job: Job, budget: float, seed: int) -> Speed:
    """bfloat16, a fused optimiser, workers, and nothing logged. All texts have one length."""
    workers = 4 if device().type == "cuda" else 0
    tuned = {"bf16": True, "optim": "adamw_torch_fused", "logging_strategy": "no"}
    return _trainer(job, budget, seed, tuned | {"dataloader_num_workers": workers})


def _trainer(job: Job, budget: float, seed: int, options: dict[str, Any]) -> Speed:
    import transformers

    class Watch(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:  # noqa: ARG002
            control.should_training_stop = window.passed(job.batch)

    window = Window(budget, _WARM * budget)
    ids, classes = torch.from_numpy(token_ids(job, seed)).long(), targets(job, seed)
    whole = torch.ones(job.side, dtype=torch.int64)
    rows: Any = [
        {"input_ids": text, "attention_mask": whole, "labels": int(label)}
        for text, label in zip(ids, classes, strict=True)
    ]
    transformers.set_seed(seed)
    network = transformers.BertForSequenceClassification(transformers.BertConfig(**bert_config(job)))
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder, per_device_train_batch_size=job.batch, max_steps=10_000_000, seed=seed,
            report_to="none", save_strategy="no", disable_tqdm=True, use_cpu=device().type == "cpu",
            **options,
        )  # fmt: skip
        trainer = transformers.Trainer(network, arguments, train_dataset=rows, callbacks=[Watch()])
        trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
        trainer.train()
    return _seen(window)


def _seen(window: Window) -> Speed:
    assert window.speed is not None
    return window.speed
