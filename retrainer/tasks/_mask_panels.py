"""The sections of report.html about masks: each class, what is taken for what, images with their masks."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from retrainer.formats.masks import IGNORED, colour, numbered, read_mask
from retrainer.pages.page import bar_cell, escape, label_cell, number_cell, quiet, section, share_cell, table
from retrainer.tasks._class_examples import row_place

if TYPE_CHECKING:
    from retrainer.tasks._protocol import Judged

_SIDE = 220  # pixels of a drawn picture's longer side
_GAP = 6
_MOST_IN_LEGEND = 24

Details = dict[str, Any]


def panels(judged: Judged, details: Details) -> list[str]:
    return [per_class_section(details), confusions_section(details), examples_section(judged, details)]


def per_class_section(details: Details) -> str:
    rows = [
        label_cell(row["label"])
        + bar_cell(row["iou"])
        + share_cell(row["dice"])
        + share_cell(row["true"])
        + share_cell(row["found"])
        + number_cell(f"{row['images']:,}")
        for row in details["per_class"]
    ]
    heads = ["intersection over union", "Dice", "share of the pixels", "given share", "images that show it"]
    notes = [f"<p>{escape(note)}</p>" for note in details["notes"]]
    return section("Each class", *notes, table(["class"], heads, rows))


def confusions_section(details: Details) -> str:
    if not details["confusions"]:
        return section("What is taken for what", quiet("Nothing is: every pixel has its class."))
    rows = [
        label_cell(row["true"]) + label_cell(row["found"]) + share_cell(row["share"])
        for row in details["confusions"]
    ]
    heads = ["share of the true class's pixels"]
    about = "Those with most pixels come first."
    return section("What is taken for what", quiet(about), table(["true", "given"], heads, rows))


def examples_section(judged: Judged, details: Details) -> str:
    """The worst and the best test images, each beside its true and its given mask."""
    labels = [row["label"] for row in details["per_class"]]
    drawn = [_drawn(judged, row, labels) for row in details["examples"]]
    if not drawn:
        return ""
    about = (
        "From left to right: the image, the true classes, those that the model gives. Black pixels do not"
        " count. First the images that it got worst, then the best (by their own mean IoU)."
    )
    return section("Images", quiet(about), _legend(labels), f'<div class="misses">{"".join(drawn)}</div>')


def _legend(labels: Sequence[str]) -> str:
    shown = [
        f'<span style="background:rgb{colour(place)};display:inline-block;width:1em;height:1em"></span>'
        f" {escape(label)}"
        for place, label in enumerate(labels[:_MOST_IN_LEGEND])
    ]
    more = len(labels) - len(shown)
    return f"<p>{' &ensp; '.join([*shown, *([f'and {more} more'] if more > 0 else [])])}</p>"


def _drawn(judged: Judged, row: int, labels: Sequence[str]) -> str:
    content = judged.test.slice(row, 1).to_pylist()[0]
    where = escape(row_place(content, row))
    source = picture(
        content["image"]["bytes"], where, content["mask"], judged.predictions["mask"][row].as_py(), labels
    )
    alt = f"{where}: the image, its true and its given classes"
    return f'<figure><img src="{source}" alt="{alt}"><figcaption>{where}</figcaption></figure>'


def picture(
    encoded: bytes, name: str, true: dict[str, Any], found: dict[str, Any], labels: Sequence[str]
) -> str:
    """Small copies of the image and of both masks side by side, as a data URI."""
    from retrainer.tasks._decode_image import plain_image

    image, (width, height) = plain_image(encoded, 2 * _SIDE, 3, name)
    share = _SIDE / max(width, height)
    size = max(1, round(width * share)), max(1, round(height * share))
    parts = [image.resize(size)]
    parts += [Image.fromarray(_coloured(mask, labels, name)).resize(size, 0) for mask in (true, found)]
    whole = Image.new("RGB", (len(parts) * (size[0] + _GAP) - _GAP, size[1]), (255, 255, 255))
    for place, part in enumerate(parts):
        whole.paste(part, (place * (size[0] + _GAP), 0))
    buffer = io.BytesIO()
    whole.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _coloured(mask: dict[str, Any], labels: Sequence[str], name: str) -> np.ndarray:
    """uint8 [H, W, 3]: each class in the colour of its place in `labels`."""
    places = {label: place for place, label in enumerate(labels)}
    values = numbered(read_mask(mask["image"]["bytes"], name), mask["classes"], places, IGNORED)
    colours = np.array([colour(value) for value in range(256)], np.uint8)
    return np.asarray(colours[np.where(values < 0, IGNORED, values)])
