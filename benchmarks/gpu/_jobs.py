"""The work, the same for every contender: networks, batches, and rows that are drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Of 16-bit activations: how often a training step reads or writes each output of a convolution, in its own
# pass, the norm's and the activation's, forward and backward. An estimate, see README.md.
_PASSES = 17
# Forward, and twice as much backward.
_PASSES_OF_PRODUCTS = 3
_BLOCK = 256


@dataclass(frozen=True)
class Job:
    """`side` is of images in pixels, or the tokens of each text. `bert` are the sizes of the encoder."""

    name: str
    kind: str  # pixels or tokens
    network: str
    batch: int
    rows: int
    side: int
    classes: int
    target: str
    bert: tuple[int, int, int, int] | None = None  # width, layers, heads, words


JOBS = {
    job.name: job
    for job in (
        Job("resnet50", "pixels", "resnet50", 256, 7_680, 224, 1000, "60% of its memory roof"),
        Job("resnet18", "pixels", "resnet18", 512, 16_384, 224, 1000, "25,000 img/s"),
        Job(
            "bert-base", "tokens", "bert", 128, 16_384, 128, 2, "50% of the GEMM rate", (768, 12, 12, 30_522)
        ),
    )
}
TINY = {
    job.name: job
    for job in (
        Job("resnet50", "pixels", "resnet50", 8, 16, 32, 10, "none at this size"),
        Job("resnet18", "pixels", "resnet18", 8, 32, 32, 10, "none at this size"),
        Job("bert-base", "tokens", "bert", 8, 64, 16, 2, "none at this size", (32, 2, 2, 200)),
    )
}


def images(job: Job, seed: int) -> Tensor:
    """Uint8 [N, 3, side, side]; blocks of 256 repeat, as drawing gigabytes would take long."""
    draws = torch.Generator().manual_seed(seed)
    block = torch.randint(
        0, 256, (min(_BLOCK, job.rows), 3, job.side, job.side), dtype=torch.uint8, generator=draws
    )
    return block.repeat(-(-job.rows // len(block)), 1, 1, 1)[: job.rows]


def token_ids(job: Job, seed: int) -> np.ndarray:
    """Int32 [N, side]: no padding anywhere."""
    assert job.bert is not None
    draws = np.random.default_rng(seed)
    return draws.integers(5, job.bert[3], (job.rows, job.side), dtype=np.int32)


def targets(job: Job, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, job.classes, job.rows)


def bert_config(job: Job) -> dict[str, Any]:
    """BERT-base's sizes (or the tiny ones), for `transformers`."""
    assert job.bert is not None
    width, layers, heads, words = job.bert
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    return sizes | {"intermediate_size": 4 * width, "vocab_size": words, "num_labels": job.classes}


def cost(job: Job) -> dict[str, float]:
    """FLOPs and bytes of memory traffic that training on one sample takes, counted on the network itself.

    FLOPs are of convolutions, linear layers and attention's products, 2 a multiplication and addition. Bytes
    are those of the outputs of convolutions, and 0 for a text encoder, which large products bound.
    """
    if job.kind == "tokens":
        return {"flops": _PASSES_OF_PRODUCTS * _bert_flops(job), "bytes": 0.0}
    from torchvision import models

    network = models.get_model(job.network, num_classes=job.classes).eval()
    found = {"flops": 0.0, "elements": 0.0}

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        weight = module.get_parameter("weight")
        found["flops"] += 2.0 * weight[0].numel() * output.numel()
        found["elements"] += output.numel() if output.dim() == 4 else 0

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 3, job.side, job.side))
    return {"flops": _PASSES_OF_PRODUCTS * found["flops"], "bytes": 2 * _PASSES * found["elements"]}


def _bert_flops(job: Job) -> float:
    """Of a forward pass: per token 12 · width² weights a layer, and both products of attention."""
    assert job.bert is not None
    width, layers, _, _ = job.bert
    return float(layers * (2 * 12 * width**2 * job.side + 4 * job.side**2 * width))
