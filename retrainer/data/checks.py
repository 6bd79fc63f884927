"""Which rows a task can use, and for each other row the reason why not."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pyarrow as pa

from retrainer.errors import UserError

# Decoded, three bytes a pixel: 268 MB. Beyond this Pillow itself suspects a bomb.
MAX_PIXELS = 89_478_485
# Only formats whose decoders are plain: an EPS file, say, would start another program.
IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
_IMAGES_PER_JOB = 64
# JPEG decodes at an eighth of its side twice as fast, and still reads every byte.
_DRAFT = 8

Labels = list[list[str] | None]


def clean_labels(labels: Labels) -> Labels:
    """Labels without white space around them, in composed Unicode, each once and sorted."""
    return [None if row is None else sorted({_clean(label) for label in row} - {""}) for row in labels]


def _clean(label: str) -> str:
    return unicodedata.normalize("NFC", label).strip()


def check_one_label(labels: Labels, origins: Sequence[str]) -> None:
    """Raises UserError for the first row of several labels in a single-label task."""
    for row, origin in zip(labels, origins, strict=True):
        if row is not None and len(row) > 1:
            named = ", ".join(f"'{label}'" for label in row[:3])
            raise UserError(
                f"{origin} has {len(row)} labels ({named}); set task.multi_label: true to allow several"
            )


def unusable(table: pa.Table, columns: Sequence[str], labels: Labels, multi_label: bool) -> list[str | None]:
    """Per row the reason why the task that reads `columns` cannot use it; None for a sound row.

    A row of a multi-label task may have no label ([]), but must say so: an absent one is missing.
    """
    reasons: list[str | None] = [None] * len(table)

    def note(found: Sequence[str | None]) -> None:
        for row, reason in enumerate(found):
            reasons[row] = reasons[row] or reason

    for column in columns:
        if column == "image":
            note(image_reasons(table["image"]))
        else:
            what = f"empty {column.replace('_', ' ')}"
            note([None if text and not text.isspace() else what for text in table[column].to_pylist()])
    note(["missing label" if row is None or not (row or multi_label) else None for row in labels])
    return reasons


def image_reasons(images: pa.ChunkedArray) -> list[str | None]:
    """Per image the reason why it cannot be used; the pixels are counted in the header before decoding."""
    encoded = [chunk.flatten()[0] for chunk in images.chunks]
    jobs = [
        chunk.slice(start, _IMAGES_PER_JOB)
        for chunk in encoded
        for start in range(0, len(chunk), _IMAGES_PER_JOB)
    ]
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        # A decoder's remark (odd metadata, say) is no reason to leave out an image that it could read.
        warnings.simplefilter("ignore")
        return [reason for reasons in pool.map(_reasons_of, jobs) for reason in reasons]


def _reasons_of(encoded: pa.BinaryArray) -> list[str | None]:
    return [_image_reason(one.as_buffer()) if one.is_valid else "no image" for one in encoded]


def _image_reason(encoded: pa.Buffer) -> str | None:
    from PIL import Image

    try:
        image = Image.open(BytesIO(encoded), formats=IMAGE_FORMATS)
    except Image.DecompressionBombError:
        return "image too large"
    except Exception:  # whatever a decoder raises on strange bytes, they are no image of ours
        return "not an image"
    if image.width * image.height > MAX_PIXELS:
        return "image too large"
    try:
        image.draft(image.mode, (max(1, image.width // _DRAFT), max(1, image.height // _DRAFT)))
        image.load()
    except Exception:
        return "broken image"
    return None
