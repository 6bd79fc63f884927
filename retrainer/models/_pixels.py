"""What a Hugging Face directory, or one of ours, says of the images that its network was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrainer.models._start import is_ours, our_model
from retrainer.models._text import read_json

_NOTE = "preprocessor_config.json"
_SIDE = 224


def recorded_pixels(weights: Path, model: dict[str, Any], family: str = "transformers") -> dict[str, Any]:
    """`size` (height, width), `channels`, `mean` and `std` of a directory whose architecture is `model`.

    A model of ours must be of `family`.
    """
    if is_ours(weights):
        theirs = our_model(weights, family)["preprocessing"]
        return {key: theirs[key] for key in ("size", "channels", "mean", "std")}
    note = read_json(weights / _NOTE) if (weights / _NOTE).is_file() else {}
    channels = int(model.get("num_channels") or 3)
    plain = note.get("do_normalize") is False
    return {
        "size": _size(note, model),
        "channels": channels,
        "mean": [0.0] * channels if plain else note.get("image_mean") or [0.5] * channels,
        "std": [1.0] * channels if plain else note.get("image_std") or [0.5] * channels,
    }


def _size(note: dict[str, Any], model: dict[str, Any]) -> tuple[int, int]:
    """What is left after resizing and cropping."""
    crop = note.get("crop_size") if note.get("do_center_crop", True) else None
    size = crop or note.get("size") or model.get("image_size") or _SIDE
    if isinstance(size, dict):
        size = (size["height"], size["width"]) if "height" in size else min(size.values())
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return int(height), int(width)
