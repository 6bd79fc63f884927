"""A head that names each pixel: a feature pyramid (Lin et al. 2017, arXiv:1612.03144) whose maps are brought
to the finest one's size and added, as the semantic branch of panoptic FPN (Kirillov et al. 2019,
arXiv:1901.02446).

Legend: B images, C_i channels, K classes, H and W the sides of the images that the network sees.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from retrainer.tasks._pyramid import separable_block, top_down


class MaskHead(nn.Module):
    """Maps [B, C_i, H_i, W_i] of `widths`, the finest first → logits [B, K, H, W]."""

    def __init__(self, widths: Sequence[int], classes: int, width: int = 64, dropout: float = 0.0) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(inner, width, 1) for inner in widths)
        self.smooth = nn.ModuleList(separable_block(width, width) for _ in widths)
        self.join = separable_block(width, width)
        self.dropout = nn.Dropout2d(dropout)
        self.classes = nn.Conv2d(width, classes, 1)

    def forward(self, maps: list[Tensor], batch: dict[str, Tensor]) -> Tensor:
        levels = top_down([layer(one) for layer, one in zip(self.lateral, maps, strict=True)])
        finest, *coarser = [layer(one) for layer, one in zip(self.smooth, levels, strict=True)]
        for one in coarser:
            finest = finest + _enlarged(one, finest.shape[2:])
        logits = self.classes(self.dropout(self.join(finest)))
        return _enlarged(logits, batch["pixels"].shape[2:])


def _enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    return functional.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
