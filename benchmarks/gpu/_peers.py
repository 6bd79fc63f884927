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
_WITHOUT_MASK = "sdpa_without_mask"


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


def torchvision_shipped(job: Job, budget: float, seed: int, profiled: bool = False) -> Speed:
    """The step of torchvision's reference training by its defaults: float32, SGD, figures each step."""
    network, batches = _torchvision(job, seed), Resident(job, seed)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    window = Window(budget, _WARM * budget, profiled)
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


def torchvision_tuned(job: Job, budget: float, seed: int, profiled: bool = False) -> Speed:
    """The same loop in bfloat16, channels last, with cuDNN's search, fused AdamW and nothing read back."""
    network = _tuned(_torchvision(job, seed))
    return _image_loop(network, _forward(network, _normalised), Resident(job, seed), budget, profiled)


def torchvision_compiled(job: Job, budget: float, seed: int, profiled: bool = False) -> Speed:
    """As tuned, and `torch.compile` of the network together with the normalisation of its input."""
    network = _tuned(_torchvision(job, seed))
    forward = torch.compile(_forward(network, _normalised))
    return _image_loop(network, forward, Resident(job, seed), budget, profiled)


def _tuned(network: nn.Module) -> nn.Module:
    torch.backends.cudnn.benchmark = True
    return network.to(memory_format=torch.channels_last)


def _forward(network: nn.Module, prepare: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def forward(pixels: Tensor) -> Tensor:
        made: Tensor = network(prepare(pixels).contiguous(memory_format=torch.channels_last))
        return made

    return forward


def _torchvision(job: Job, seed: int) -> nn.Module:
    from torchvision import models

    torch.manual_seed(seed)
    network: nn.Module = models.get_model(job.network, num_classes=job.classes)
    return network.to(device()).train()


def timm_tuned(job: Job, budget: float, seed: int, profiled: bool = False, compile: bool = False) -> Speed:
    """timm's model, optimiser and prefetching loader, with the options of its train.py that make it fast."""
    import timm
    from timm.data.loader import PrefetchLoader
    from timm.optim import create_optimizer_v2

    torch.manual_seed(seed)
    network = _tuned(timm.create_model(job.network, num_classes=job.classes).to(device())).train()
    optimiser = create_optimizer_v2(network, opt="adamw", lr=1e-4, fused=True)
    batches = PrefetchLoader(Resident(job, seed), MEAN, STD, device=device())
    forward: Any = _forward(network, lambda pixels: pixels)
    forward = torch.compile(forward) if compile else forward
    return _image_loop(network, forward, batches, budget, profiled, optimiser)


def timm_compiled(job: Job, budget: float, seed: int, profiled: bool = False) -> Speed:
    """As tuned, with `--torchcompile` of its train.py, which is `torch.compile` of the network."""
    return timm_tuned(job, budget, seed, profiled, compile=True)


def _image_loop(
    network: nn.Module,
    forward: Callable[[Tensor], Tensor],
    batches: Any,
    budget: float,
    profiled: bool,
    optimiser: Any = None,
) -> Speed:
    optimiser = optimiser or torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    window = Window(budget, _WARM * budget, profiled)
    for pixels, wanted in batches:
        with bfloat16():
            loss = functional.cross_entropy(forward(pixels), wanted)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if window.passed(len(wanted)):
            break
    return _seen(window)


# --- texts ---------------------------------------------------------------------------------------------


class Texts(torch.utils.data.Dataset[Any]):
    """All rows as tensors; PyTorch's loader asks for the rows of a whole batch at once."""

    def __init__(self, job: Job, seed: int) -> None:
        self._ids = torch.from_numpy(token_ids(job, seed)).long()
        self._labels = torch.from_numpy(targets(job, seed))

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return self.__getitems__([row])

    def __getitems__(self, rows: list[int]) -> dict[str, Tensor]:
        """No mask: no row is padded, and attention is faster without one."""
        at = torch.tensor(rows)
        return {"input_ids": self._ids[at], "labels": self._labels[at]}


def trainer_shipped(job: Job, budget: float, seed: int, profiled: bool = False) -> Speed:
    """Rows as the tokenizer makes them, and every argument as it comes."""
    ids, classes = torch.from_numpy(token_ids(job, seed)).long(), targets(job, seed)
    whole = torch.ones(job.side, dtype=torch.int64)
    rows = [
        {"input_ids": text, "attention_mask": whole, "labels": int(label)}
        for text, label in zip(ids, classes, strict=True)
    ]
    return _trainer(job, budget, seed, profiled, rows, {})


def trainer_tuned(job: Job, budget: float, seed: int, profiled: bool = False, compile: bool = False) -> Speed:
    """bfloat16, a fused optimiser, nothing logged, and batches cut from one tensor without workers."""
    tuned = {"bf16": True, "optim": "adamw_torch_fused", "logging_strategy": "no", "torch_compile": compile}
    tuned |= {"remove_unused_columns": False}  # there are none, and looking for them takes a batch apart
    attention = _WITHOUT_MASK if compile else "sdpa"
    return _trainer(job, budget, seed, profiled, Texts(job, seed), tuned, lambda batch: batch, attention)


def trainer_compiled(job: Job, budget: float, seed: int, profiled: bool = False) -> Speed:
    """As tuned, with `torch_compile`, and PyTorch's attention under a name for which no mask is made.

    Compiled, transformers makes a mask where it is given none, and PyTorch's fastest attention takes none.
    """
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register(_WITHOUT_MASK, sdpa_attention_forward)
    return trainer_tuned(job, budget, seed, profiled, compile=True)


def _trainer(
    job: Job,
    budget: float,
    seed: int,
    profiled: bool,
    rows: Any,
    options: dict[str, Any],
    collate: Callable[[Any], Any] | None = None,
    attention: str = "sdpa",
) -> Speed:
    import transformers

    class Watch(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:  # noqa: ARG002
            control.should_training_stop = window.passed(job.batch)

    window = Window(budget, _WARM * budget, profiled)
    transformers.set_seed(seed)
    config = transformers.BertConfig(**bert_config(job), attn_implementation=attention)
    network = transformers.BertForSequenceClassification(config)
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder, per_device_train_batch_size=job.batch, max_steps=10_000_000, seed=seed,
            report_to="none", save_strategy="no", disable_tqdm=True, use_cpu=device().type == "cpu",
            **options,
        )  # fmt: skip
        trainer = transformers.Trainer(
            network, arguments, train_dataset=rows, data_collator=collate, callbacks=[Watch()]
        )
        trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
        trainer.train()
    return _seen(window)


def _seen(window: Window) -> Speed:
    assert window.speed is not None
    return window.speed
