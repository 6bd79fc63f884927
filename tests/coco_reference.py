"""pycocotools' own figures of our tables: what our average precision is compared with."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pyarrow as pa


def coco_figures(predictions: pa.Table, truth: pa.Table) -> tuple[float, float, np.ndarray]:
    """AP, AP50 and precision [T, R, K] as COCOeval gives them; -1 where nothing is to be found."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    true = truth["boxes"].to_pylist()
    found = predictions["boxes"].to_pylist()
    names = sorted({box["label"] for boxes in [*true, *found] for box in boxes})
    entries = [_entry(image, box, names) for image, boxes in enumerate(true) for box in boxes]
    guesses = [
        _entry(image, box, names) | {"score": box["score"]}
        for image, boxes in enumerate(found)
        for box in boxes
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = {
            "images": [{"id": image} for image in range(len(true))],
            "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
            "annotations": [entry | {"id": number} for number, entry in enumerate(entries, start=1)],
        }
        ground.createIndex()
        judged = COCOeval(ground, ground.loadRes(guesses) if guesses else COCO(), "bbox")
        judged.params.imgIds = list(range(len(true)))
        judged.params.catIds = list(range(len(names)))
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return float(judged.stats[0]), float(judged.stats[1]), judged.eval["precision"][:, :, :, 0, 2]


def _entry(image: int, box: dict[str, Any], names: list[str]) -> dict[str, Any]:
    width, height = box["right"] - box["left"], box["bottom"] - box["top"]
    return {
        "image_id": image,
        "category_id": names.index(box["label"]),
        "bbox": [box["left"], box["top"], width, height],
        "area": width * height,
        "iscrowd": 0,
    }
