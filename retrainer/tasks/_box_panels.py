"""The sections of report.html about boxes: each class, precision and recall, and images with their boxes."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

from retrainer.formats.names import CORNERS
from retrainer.pages.charts import SERIES, Axes, Points, line_chart
from retrainer.pages.page import bar_cell, escape, label_cell, number_cell, quiet, section, share_cell, table
from retrainer.tasks._class_examples import row_place

if TYPE_CHECKING:
    from retrainer.tasks._protocol import Judged

_SIDE = 360  # pixels of a drawn image's longer side
_SHOWN_SCORE = 0.3
_TRUE, _FOUND = "#1a9850", "#e6550d"
# More lines than this are no chart that anybody can read.
_MOST_LINES = SERIES

Details = dict[str, Any]


def panels(judged: Judged, details: Details) -> list[str]:
    return [per_class_section(details), curves_section(details), examples_section(judged, details)]


def per_class_section(details: Details) -> str:
    rows = [
        label_cell(row["label"])
        + bar_cell(row["average_precision_50"])
        + share_cell(row["average_precision"])
        + number_cell(f"{row['boxes']:,}")
        + number_cell(f"{row['found']:,}")
        for row in details["per_class"]
    ]
    heads = [
        "average precision (overlap 0.5)",
        "average precision (0.5 to 0.95)",
        "true boxes",
        "found boxes",
    ]
    notes = [f"<p>{escape(note)}</p>" for note in details["notes"]]
    return section("Each class", *notes, table(["class"], heads, rows))


def curves_section(details: Details) -> str:
    """Precision over recall of the classes with most true boxes."""
    counts = {row["label"]: row["boxes"] for row in details["per_class"]}
    shown = sorted(details["curves"], key=lambda label: (-counts.get(label, 0), label))[:_MOST_LINES]
    lines: dict[str, Points] = {
        label: [(place / (len(values) - 1), value) for place, value in enumerate(values)]
        for label in shown
        if len(values := details["curves"][label]) > 1
    }
    if not lines:
        return ""
    about = (
        "Each point of a line is a least score. Upwards precision: of the boxes with that score or more, the"
        " share that is right. To the right recall: the share of the true boxes that they find. A box is"
        " right when it overlaps a true one by half or more."
    )
    chart = line_chart(lines, "precision over recall", None, Axes("recall", (0.0, 1.0), (0.0, 1.0)))
    return section("Precision and recall", quiet(about), chart)


def examples_section(judged: Judged, details: Details) -> str:
    """The worst and the best test images."""
    drawn = [_drawn(judged, row) for row in details["examples"]]
    if not drawn:
        return ""
    about = (
        f"Green are the true boxes, orange those that the model found with a score of {_SHOWN_SCORE:g} or"
        " more. First the images that it got worst, then the best (by the average precision of their boxes)."
    )
    return section("Images", quiet(about), f'<div class="misses">{"".join(drawn)}</div>')


def _drawn(judged: Judged, row: int) -> str:
    content = judged.test.slice(row, 1).to_pylist()[0]
    found = [box for box in judged.predictions["boxes"][row].as_py() if box["score"] >= _SHOWN_SCORE]
    where = escape(row_place(content, row))
    source = picture(content["image"]["bytes"], where, content["boxes"] or [], found)
    counts = f"{len(content['boxes'] or [])} true, {len(found)} found"
    image = f'<img src="{source}" alt="{where}: {counts}">'
    return f"<figure>{image}<figcaption>{where}: {counts}</figcaption></figure>"


def picture(encoded: bytes, name: str, true: list[dict[str, Any]], found: list[dict[str, Any]]) -> str:
    """A small copy of the image with its boxes, as a data URI."""
    from PIL import ImageDraw

    from retrainer.tasks._decode_image import plain_image

    image, (width, height) = plain_image(encoded, 2 * _SIDE, 3, name)
    scale = _SIDE / max(width, height)
    image = image.resize((max(1, round(width * scale)), max(1, round(height * scale))))
    pen = ImageDraw.Draw(image)
    for boxes, colour in ((true, _TRUE), (found, _FOUND)):
        for box in boxes:
            left, top, right, bottom = (box[corner] * scale for corner in CORNERS)
            if right > left and bottom > top:
                pen.rectangle((left, top, right, bottom), outline=colour, width=2)
            if "score" in box:
                pen.text((left + 3, top + 1), f"{box['label']} {box['score']:.2f}", fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
