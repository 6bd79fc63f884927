"""Small images of squares and discs, with their boxes, in the forms that people keep them in."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from retrainer.formats.names import CORNERS

Boxes = list[dict[str, Any]]


def scene(seed: int, size: tuple[int, int] = (64, 48)) -> tuple[bytes, Boxes]:
    """A PNG of one to three shapes on noise, and their boxes."""
    draws = np.random.default_rng(seed)
    image = Image.fromarray(draws.integers(90, 130, (size[1], size[0], 3), dtype=np.uint8))
    pen, boxes = ImageDraw.Draw(image), []
    for _ in range(draws.integers(1, 4)):
        side = int(draws.integers(10, 22))
        left, top = (int(draws.integers(0, limit - side)) for limit in size)
        corners = (left, top, left + side, top + side)
        label = str(draws.choice(["disc", "square"]))
        draw = pen.ellipse if label == "disc" else pen.rectangle
        draw(
            (left, top, left + side - 1, top + side - 1),
            fill=(230, 60, 40) if label == "disc" else (40, 60, 230),
        )
        boxes.append({"label": label, **dict(zip(CORNERS, map(float, corners), strict=True))})
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue(), boxes


def voc_xml(name: str, boxes: Boxes) -> str:
    objects = "".join(
        f"<object><name>{box['label']}</name><bndbox><xmin>{box['left']:g}</xmin><ymin>{box['top']:g}</ymin>"
        f"<xmax>{box['right']:g}</xmax><ymax>{box['bottom']:g}</ymax></bndbox></object>"
        for box in boxes
    )
    return f"<annotation><filename>{name}.png</filename>{objects}</annotation>"


def voc_folder(root: Path, count: int, test: int = 0, start: int = 0) -> Path:
    """Images `a00`, `a01`, …, the last `test` of which stand in the list `test`."""
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / part).mkdir(parents=True, exist_ok=True)
    names = [f"a{number:02d}" for number in range(start, start + count)]
    for number, name in enumerate(names, start):
        image, boxes = scene(number)
        (root / "JPEGImages" / f"{name}.png").write_bytes(image)
        (root / "Annotations" / f"{name}.xml").write_text(voc_xml(name, boxes))
    if test:
        (root / "ImageSets/Main/test.txt").write_text("\n".join(names[count - test :]) + "\n")
        (root / "ImageSets/Main/trainval.txt").write_text("\n".join(names[: count - test]) + "\n")
    return root


def coco_json(names: list[str], boxes: list[Boxes]) -> dict[str, Any]:
    labels = ["disc", "square"]
    annotations = [
        {
            "id": 1,
            "image_id": image,
            "category_id": labels.index(box["label"]) + 1,
            "bbox": [box["left"], box["top"], box["right"] - box["left"], box["bottom"] - box["top"]],
        }
        for image, some in enumerate(boxes)
        for box in some
    ]
    return {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(labels, start=1)],
    }


def coco_folder(root: Path, count: int, split: str, start: int = 0) -> Path:
    """COCO's own layout: annotations/instances_SPLIT.json and the images in SPLIT/."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / split).mkdir()
    scenes = [scene(number) for number in range(start, start + count)]
    names = [f"{number:06d}.png" for number in range(start, start + count)]
    for name, (image, _) in zip(names, scenes, strict=True):
        (root / split / name).write_bytes(image)
    content = json.dumps(coco_json(names, [boxes for _, boxes in scenes]))
    (root / "annotations" / f"instances_{split}.json").write_text(content)
    return root
