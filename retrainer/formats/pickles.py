"""Finding pickled files: to load one runs whatever code is in it, so no model directory has any."""

from __future__ import annotations

import zipfile
from pathlib import Path

# torch.save, joblib.dump and pickle.dump under their usual names; compressed, the bytes say nothing.
_SUFFIXES = {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".dill"}
# A safetensors file begins with the length of its header, which can look like anything.
_NEVER = ".safetensors"
# The opcode PROTO and the protocols since 2003 (Python's pickletools).
_PROTO, _PROTOCOLS = 0x80, range(2, 6)


def is_pickle(file: Path) -> bool:
    """Whether this is a pickle, also inside the archive that torch.save writes."""
    if file.suffix.lower() == _NEVER:
        return False
    return file.suffix.lower() in _SUFFIXES or holds_pickle(file)


def holds_pickle(file: Path) -> bool:
    """The same by its bytes alone."""
    with file.open("rb") as stream:
        start = stream.read(2)
    if len(start) == 2 and start[0] == _PROTO and start[1] in _PROTOCOLS:
        return True
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith(".pkl") for name in archive.namelist())
