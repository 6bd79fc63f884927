"""Resemblyzer's speaker encoder, of its package's `pretrained.pt`, as safetensors for `speaker_encoder`."""

from __future__ import annotations

from pathlib import Path

from retrainer.convert.kept import kept
from retrainer.errors import ModelError

FILE = "pretrained.pt"
_KIND = "converted_speaker_encoder"
_STATE = "model_state."
# Beside the network: what its loss scaled cosines by.
_UNUSED = ("similarity_weight", "similarity_bias")


def converted_speaker_encoder(file: Path, sha256: str, cache: Path) -> Path:
    """A directory with the network's values, made once: `sha256` is that of `file`, and has been checked.

    Raises ModelError for a file that holds something else.
    """
    return kept(cache / f"speaker-encoder-{sha256}", _KIND, lambda into: _write(file, into))


def _write(file: Path, into: Path) -> None:
    from safetensors.torch import save_file

    from retrainer.convert.read import read_pickled

    found = read_pickled(file)
    inside = {name.removeprefix(_STATE): one for name, one in found.items() if name.startswith(_STATE)}
    tensors = {name: one.clone().contiguous() for name, one in inside.items() if name not in _UNUSED}
    if not tensors:
        raise ModelError(f"{file} holds no {_STATE.rstrip('.')}; install the package resemblyzer again")
    save_file(tensors, into / "model.safetensors", {"format": "pt"})
