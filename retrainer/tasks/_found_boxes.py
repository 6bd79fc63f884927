"""From a detector's outputs to typed boxes in the pixels of the whole image.

Legend: B images, A places, K classes.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from retrainer.formats.names import CORNERS

FOUND = pa.struct(
    [("label", pa.string()), ("score", pa.float64()), *((corner, pa.float64()) for corner in CORNERS)]
)
_MOST_CANDIDATES = 1000


def box_table(outputs: Any, frames: Tensor, labels: tuple[str, ...], options: Any) -> pa.Table:
    """`outputs.detections()` gives corners [B, A, 4] and scores [B, A, K]; `frames` [B, 3] say how the images
    were scaled. Returns the column `boxes`, the highest score first.
    """
    corners, scores = outputs.detections()
    found = [_of_image(*one, labels, options) for one in zip(corners, scores, frames, strict=True)]
    return pa.table({"boxes": pa.array(found, pa.list_(FOUND))})


def _of_image(
    corners: Tensor, scores: Tensor, frame: Tensor, labels: tuple[str, ...], options: Any
) -> list[dict[str, Any]]:
    flat = scores.flatten()
    # Of equal scores the first place comes first, on every machine.
    best, order = flat.sort(descending=True, stable=True)
    best, order = best[:_MOST_CANDIDATES], order[:_MOST_CANDIDATES]
    order = order[best > options.score]
    places, classes = order // scores.shape[1], order % scores.shape[1]
    scale, width, height = frame.tolist()
    inside = corners[places].double() / scale
    inside[:, 0::2] = inside[:, 0::2].clamp(0, width)
    inside[:, 1::2] = inside[:, 1::2].clamp(0, height)
    real = ((inside[:, 2:] - inside[:, :2]) > 0).all(1)
    inside, classes, chosen = inside[real], classes[real], flat[order][real]
    kept = batched_nms(inside.float(), chosen, classes, options.overlap)[: options.most_boxes]
    values = torch.cat([chosen[kept, None].double(), inside[kept]], dim=1).tolist()
    fields = ("score", *CORNERS)
    return [
        {"label": labels[code], **dict(zip(fields, row, strict=True))}
        for code, row in zip(classes[kept].tolist(), values, strict=True)
    ]


def with_most_boxes(first: pa.Table, second: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Both tables with a note of the most boxes that an image has in either, which metrics read."""
    rows = [len(boxes or []) for table in (first, second) for boxes in table["boxes"].to_pylist()]
    note = {b"most_boxes": str(max(rows, default=0)).encode()}
    return first.replace_schema_metadata(note), second.replace_schema_metadata(note)
