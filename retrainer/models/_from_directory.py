"""What families share that read their architecture from a directory of weights: others' files, or ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from retrainer.errors import SettingError
from retrainer.models._network import Body
from retrainer.models._start import drawn_from, fill, is_ours, our_model, read_tensors, unfilled

# A body's config, its preprocessing, and its assets by name.
Description = tuple[dict[str, Any], dict[str, Any], dict[str, bytes]]


def require_directory(weights: Path | str | None, family: str, ways: str) -> Path:
    """Raises SettingError where there is none; `ways`: what may be given."""
    if isinstance(weights, Path) and weights.is_dir():
        return weights
    raise SettingError(
        f"backbone.weights: the {family} family reads its architecture from them; give a directory with"
        f" config.json ({ways})"
    )


def described(weights: Path, family: str, read: Callable[[Path], Description]) -> Description:
    """What one of our model directories says of itself, or what `read` finds in others' files."""
    if not is_ours(weights):
        return read(weights)
    ours = our_model(weights, family)
    assets = {name: (weights / name).read_bytes() for name in ours["assets"]}
    return ours["config"], ours["preprocessing"], assets


def first_body(
    weights: Path, seed: int | None, restore: Callable[[], Body], pretrained: Callable[[], Body]
) -> Body:
    """The body by `restore`, with values that depend on `seed` alone; where it is None, those of one of our
    model directories, or what `pretrained` makes of others' files."""
    if seed is not None:
        with drawn_from(seed):
            return restore()
    if not is_ours(weights):
        return pretrained()
    with unfilled():
        body = restore()
    fill(body.module, read_tensors(weights))
    return body
