"""LoRA by peft: small matrices beside a frozen body's layers, added into the weights when training is over.

Hu et al. 2021, arXiv:2106.09685. The one file that needs the extra `lora`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from retrainer.errors import SettingError
from retrainer.models._network import Body
from retrainer.settings import Training


@contextmanager
def adapted(body: Body, training: Training) -> Iterator[None]:
    """Inside, only the added matrices of `body.module` are trained; at the end its own layers hold their sum.

    Adapted are the linear layers of the blocks (an encoder's attention and its MLP), of a body without any
    their convolutions. Draws from PyTorch's global generator. Raises UserError without peft.
    """
    peft = _peft()
    config = peft.LoraConfig(
        r=training.lora_rank, lora_alpha=training.lora_alpha, target_modules=targets(body), lora_dropout=0.0
    )
    module = body.module
    module.requires_grad_(False)
    peft.inject_adapter_in_model(config, module)
    yield
    layers = [(n, part) for n, part in module.named_modules() if isinstance(part, peft.tuners.lora.LoraLayer)]
    with torch.no_grad():
        for name, layer in layers:
            layer.merge(safe_merge=False)
            module.set_submodule(name, layer.get_base_layer())


def targets(body: Body) -> list[str]:
    """Names of the layers that are adapted. Raises UserError when there are none."""
    blocks = tuple(f"{name}." for name in body.blocks(body.module))
    inside = [(name, part) for name, part in body.module.named_modules() if f"{name}.".startswith(blocks)]
    # By their exact type: a layer of another may be read around its `forward`, as in nn.MultiheadAttention.
    for kind in (nn.Linear, nn.Conv2d):
        found = [name for name, part in inside if type(part) is kind and getattr(part, "groups", 1) == 1]
        if found:
            return found
    raise SettingError(
        "training.strategy: lora adapts linear layers or convolutions, and this backbone has none; set full"
    )


def _peft() -> Any:
    try:
        import peft
    except ModuleNotFoundError:
        raise SettingError(
            "training.strategy: lora needs peft, which is not installed; pip install 'retrainer[lora]'"
        ) from None
    return peft
