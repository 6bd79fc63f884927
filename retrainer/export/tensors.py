"""Weights under another library's names. Legend: D feature width, K outputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.export.description import Exported

if TYPE_CHECKING:
    from torch import Tensor

FILE = "model.safetensors"


def body_tensors(exported: Exported) -> dict[str, Tensor]:
    """Every value of the network below the outputs, by its name there."""
    return dict(exported.model.predictor.network.body.state_dict())


def last_layer(exported: Exported) -> tuple[Tensor, Tensor]:
    """Weights [K, D] and bias [K] of the outputs; of a number in its own units."""
    head = exported.model.predictor.network.head
    weight, bias = head.weight.detach(), head.bias.detach()
    if exported.is_number:
        return weight * head.deviation, bias * head.deviation + head.mean
    return weight, bias


def save_tensors(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Each tensor on its own: safetensors refuses those that share memory."""
    from safetensors.torch import save_file

    file = folder / FILE
    save_file({n: t.detach().cpu().clone().contiguous() for n, t in tensors.items()}, file, {"format": "pt"})
    # safetensors keeps its files from everyone else; this one may be read like those beside it.
    file.chmod(next(folder.glob("*.json")).stat().st_mode & 0o777)
