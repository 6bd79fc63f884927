"""What makes a row with a mask one that semantic segmentation cannot use. Imports no torch."""

from __future__ import annotations

from typing import Any

from retrainer.errors import DataError
from retrainer.formats.columns import classes_of_mask
from retrainer.formats.masks import read_mask, upright_size


def fault(image: dict[str, Any] | None, mask: dict[str, Any] | None) -> str | None:
    """In words; None where there is none. What is wrong with the image alone, another check says."""
    if image is None or mask is None:
        return None
    if not classes_of_mask(mask):
        return "mask without a class"
    try:
        values = read_mask(mask["image"]["bytes"], "")
    except DataError:
        return "broken mask"
    size = upright_size(image["bytes"])
    return "mask of another size than the image" if size not in (None, values.shape) else None
