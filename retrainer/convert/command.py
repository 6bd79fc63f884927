"""`make convert-weights`: a .pth or .bin of one's own → weights/NAME.safetensors, and a note of how."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer import extend
from retrainer.convert.match import Match, match
from retrainer.convert.read import read_pickled
from retrainer.errors import SettingError
from retrainer.formats.files import sha256_file, whole_directory, write_text
from retrainer.resolve import settle
from retrainer.services.scratch import scratch_directory
from retrainer.tasks import make_task

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = Path("weights")
_CONFIG = "config.json"
# Of a directory in Hugging Face layout: what tells the architecture and the tokenizer.
_TOLD = (".json", ".txt", ".model")
_SHOWN = 6


@dataclass(frozen=True)
class Request:
    """`path`: the pickled file. The recipe's backbone, with `overrides`, says of which network it is."""

    path: Path
    recipe: str = ""
    overrides: tuple[str, ...] = ()
    root: Path = Path()


def convert(request: Request) -> list[str]:
    """Writes the file and its note, and returns what to say, line by line.

    Raises UserError where the file is not safe to read, its tensors do not fit the recipe's network, or the
    result is there already.
    """
    if not request.path.is_file():
        raise SettingError(f"INPUT={request.path}: there is no such file; name a .pth, .pt, .bin or .ckpt")
    sections: Any = settle(request.recipe or None, list(request.overrides), request.root)[1]
    shaped = extend.load("models", sections["backbone"].family, "backbone.family").SHAPED_BY_WEIGHTS
    into = request.root / FOLDER / (request.path.stem + ("" if shaped else ".safetensors"))
    if into.exists():
        raise SettingError(f"{into} is there already; remove it, or rename {request.path.name}")
    found = _directory(request, sections, into) if shaped else _file(request, sections, into)
    return _said(request, into, found)


def _network(sections: Any, weights: Path | None) -> Any:
    """The body of the recipe's backbone: random values without weights. Pixels of its own channels."""
    backbone = sections["backbone"]
    family = extend.load("models", backbone.family, "backbone.family")
    spec = make_task(sections["task"]).input_spec()
    spec = spec | {"channels": None} if spec["kind"] == "pixels" else spec
    options = family.Options.parse(backbone.options, "backbone")
    return family.build(options, spec, weights, 0, weights is None)


def _file(request: Request, sections: Any, into: Path) -> Match:
    """The tensors in the network's own names, tried by loading them."""
    tensors = read_pickled(request.path)
    found = match(_shapes(_network(sections, None).module.state_dict()), _shapes(tensors))
    with scratch_directory() as scratch:
        made = scratch / into.name
        _save({name: tensors[theirs] for name, theirs in found.pairs.items()}, made)
        _network(sections, made)
        into.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made, into)
    return found


def _directory(request: Request, sections: Any, into: Path) -> Match:
    """A directory in Hugging Face layout, whose names its own library knows: they stay as they are."""
    beside = request.path.parent
    if not (beside / _CONFIG).is_file():
        raise SettingError(
            f"INPUT={request.path}: {_CONFIG} is not beside it, which tells the architecture of family"
            f" {sections['backbone'].family}; copy it there, with the tokenizer's files"
        )
    tensors = read_pickled(request.path)
    with whole_directory(into) as aside:
        for file in sorted(beside.iterdir()):
            if file.is_file() and file.suffix in _TOLD:
                shutil.copy(file, aside / file.name)
        _save(tensors, aside / "model.safetensors")
        _network(sections, aside)
    return Match({name: name for name in tensors}, "as they are, in the layout of Hugging Face", ())


def _save(tensors: dict[str, Tensor], file: Path) -> None:
    """Each tensor on its own: safetensors refuses those that share memory."""
    from safetensors.torch import save_file

    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, file, {"format": "pt"})


def _said(request: Request, into: Path, found: Match) -> list[str]:
    """What to print; the same stands in a note beside the result."""
    examples = [f"{theirs} → {name}" for name, theirs in found.pairs.items() if name != theirs][:_SHOWN]
    lines = [
        f"{request.path} (sha256 {sha256_file(request.path)}), read without running any code in it",
        f"{len(found.pairs)} tensors taken {found.how}",
        *(f"  {example}" for example in examples),
    ]
    if found.unused:
        lines.append(
            f"not used: {', '.join(found.unused[:_SHOWN])}{' …' if len(found.unused) > _SHOWN else ''}"
        )
    note = into.with_name(f"{into.stem}.txt")
    write_text(note, "\n".join([*lines, ""]))
    return [*lines, f"written: {into}, and this note: {note}", f"use it: backbone: {{weights: {into}}}"]


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
