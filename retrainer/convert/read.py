"""What a pickled file of PyTorch holds, read without running any code that it names."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.convert.whisper import MODEL
from retrainer.errors import ModelError, SettingError
from retrainer.formats.pickles import holds_pickle

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
_MOST_LEVELS = 6
# How PyTorch's reader says what else than tensors a pickle asks for.
_NAMED_CODE = re.compile(r"(?:GLOBAL|class|function) ([\w.]+)")


def read_pickled(path: Path) -> dict[str, Tensor]:
    """Its tensors by name, in its order; of dictionaries inside it the names are joined by dots.

    Raises UserError for a file that holds more than tensors and plain values, or is none.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise SettingError(f"INPUT={path}: expected a file that ends in {', '.join(SUFFIXES)}")
    if path.name == MODEL and not holds_pickle(path):
        raise SettingError(
            f"INPUT={path}: CTranslate2's files are read as they are; set backbone.weights: {path.parent}"
        )
    found = dict(_tensors(_loaded(path), "", 0))
    if not found:
        raise ModelError(
            f"{path} holds no tensors by name; save a state dict: torch.save(model.state_dict(), 'mine.pth')"
        )
    return found


def _loaded(path: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles in other protocols, which are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files fail in many ways
        reason = " ".join(str(error).split()) or type(error).__name__
        if named := _NAMED_CODE.search(reason):
            raise ModelError(
                f"{path} holds more than tensors ({named[1]}), and to read that could run code; where it was"
                " made, save the state dict alone: torch.save(model.state_dict(), 'mine.pth')"
            ) from None
        raise ModelError(f"{path} is no whole file of PyTorch ({reason[:160]}); copy it again") from None


def _tensors(content: Any, above: str, level: int) -> Iterator[tuple[str, Tensor]]:
    from torch import Tensor

    if not isinstance(content, dict) or level > _MOST_LEVELS:
        return
    for key, value in content.items():
        name = f"{above}{key}"
        if isinstance(value, Tensor):
            yield name, value
        else:
            yield from _tensors(value, f"{name}.", level + 1)
