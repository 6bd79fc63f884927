"""How a body gets its first values: random ones from a seed alone, or those of a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from retrainer.errors import UserError

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
BODY = "body."


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Random initial values inside depend on `seed` alone; the global generator is as before outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def is_ours(weights: Path) -> bool:
    """Whether this is a model directory of this project (and not one in Hugging Face layout)."""
    return weights.is_dir() and (weights / DESCRIPTION).is_file()


def our_config(weights: Path, family: str) -> dict[str, Any]:
    """The architecture of one of our model directories. Raises UserError when it is of another family."""
    description = json.loads((weights / DESCRIPTION).read_text(encoding="utf-8"))
    if description["family"] != family:
        raise UserError(
            f"backbone.weights: that model is of family {description['family']!r}; set backbone.family to it"
            f" or choose weights of family {family!r}"
        )
    return dict(description["config"])


def read_tensors(weights: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or a body's out of one of our model directories."""
    path = weights / WEIGHTS if weights.is_dir() else weights
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"backbone.weights: {path.name} cannot be read as safetensors ({error})") from None
    if weights.is_dir():
        return {name.removeprefix(BODY): t for name, t in tensors.items() if name.startswith(BODY)}
    return tensors


def fill(module: nn.Module, tensors: dict[str, Tensor], spare: Iterable[str] = ()) -> None:
    """Loads every value of `module`. Raises UserError naming what is missing, left over or of another shape.

    `spare`: prefixes of names that may be left over, as those of the head that was taken off.
    """
    spare = tuple(spare)
    wanted = module.state_dict()
    given = {name: t for name, t in tensors.items() if name in wanted or not (spare and name.startswith(spare))}
    # Old files lack BatchNorm's step counter, which nothing here reads.
    missing = [n for n in wanted if n not in given and not n.endswith("num_batches_tracked")]
    left_over = [name for name in given if name not in wanted]
    reshaped = [n for n in wanted if n in given and given[n].shape != wanted[n].shape]
    for problem, names in (("lack", missing), ("have unknown", left_over), ("have another shape of", reshaped)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UserError(
                f"backbone.weights: they do not fit this architecture: they {problem} {sorted(names)[0]}{more};"
                " check backbone.family and its name"
            )
    module.load_state_dict(given, strict=False)
