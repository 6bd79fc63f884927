"""From logits of the image that the network saw to a mask of the whole image.

Legend: B images, K classes, H and W the sides of what the network saw.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional

from retrainer.formats.columns import MASK
from retrainer.formats.masks import mask_value
from retrainer.tasks._letterbox import fitted


def mask_table(logits: Tensor, frames: Tensor, labels: Sequence[str]) -> pa.Table:
    """Logits [B, K, H, W] and `frames` [B, 3] → the column `mask`, each of its whole image's size."""
    rows = [
        mask_value(_classes(one, (int(height), int(width))), labels)
        for one, (_, width, height) in zip(logits, frames.tolist(), strict=True)
    ]
    return pa.table({"mask": pa.array(rows, MASK)})


def _classes(logits: Tensor, whole: tuple[int, int]) -> np.ndarray:
    """Logits [K, H, W] → the likeliest class of each pixel of the whole image, uint8.

    The padding is cut off and the rest enlarged bilinearly, one class after the other, so that a large image
    of many classes takes little memory. Of equal ones the first.
    """
    _, (width, height) = fitted((logits.shape[1], logits.shape[2]), whole)
    best: Tensor | None = None
    classes = torch.zeros(whole, dtype=torch.uint8, device=logits.device)
    for place, one in enumerate(logits[:, :height, :width].float()):
        large = functional.interpolate(one[None, None], size=whole, mode="bilinear", align_corners=False)[
            0, 0
        ]
        if best is None:
            best = large
            continue
        classes[large > best] = place
        best = torch.maximum(best, large)
    return np.asarray(classes.cpu().numpy())
