"""Boxes that no image can have: outside of it, or without area."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from retrainer.data.checks import clean_label
from retrainer.data.images import Look
from retrainer.data.task_columns import TaskColumns
from retrainer.findings import Findings, share_of
from retrainer.formats.columns import TYPES
from retrainer.formats.names import CORNERS

# What people mean by a pixel's place differs by one: an image's last column is 639, 640 or 640.5.
_SLACK = 1.0


def fit_boxes(table: pa.Table, columns: TaskColumns, looks: Sequence[Look], findings: Findings) -> pa.Table:
    """The check `boxes`, on sound rows: boxes that reach out of their image are cut to it, those without area
    in it are left out, whatever the level says. `looks` are of the rows' first image.
    """
    for name in (name for name in columns.targets if columns.types[name] == "boxes"):
        rows, odd, lost = [], [], 0
        for origin, look, boxes in zip(
            table["origin"].to_pylist(), looks, table[name].to_pylist(), strict=True
        ):
            boxes = [box | {"label": clean_label(box["label"])} for box in boxes]
            inside = [_inside(box, _sides(look)) for box in boxes]
            rows.append([box for box in inside if box["left"] < box["right"] and box["top"] < box["bottom"]])
            lost += len(boxes) - len(rows[-1])
            if len(rows[-1]) < len(boxes) or any(map(_differ, boxes, inside)):
                odd.append(origin)
        table = table.set_column(table.column_names.index(name), name, pa.array(rows, TYPES["boxes"]))
        if findings.looks("boxes"):
            note = f"images with boxes that reach out of them, cut, or have no area ({lost}, left out)"
            findings.add("boxes", len(odd), note, odd, share=share_of(len(odd), len(rows)))
    return table


def _sides(look: Look) -> tuple[float, float]:
    """Width and height; of an image that its EXIF note may turn, the longer side for both."""
    longer = float(max(look.size))
    return (longer, longer) if "rotated" in look.unusual else (float(look.size[0]), float(look.size[1]))


def _inside(box: dict[str, Any], sides: tuple[float, float]) -> dict[str, Any]:
    width, height = sides
    limits = dict(zip(CORNERS, (width, height, width, height), strict=True))
    return box | {corner: min(max(box[corner], 0.0), limit) for corner, limit in limits.items()}


def _differ(box: dict[str, Any], other: dict[str, Any]) -> bool:
    return any(abs(box[corner] - other[corner]) > _SLACK for corner in CORNERS)
