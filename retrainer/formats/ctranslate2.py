"""What a model file of CTranslate2 holds (`model.bin`): numbers by name, and nothing that could run.

Little-endian, as CTranslate2 4.8 writes it (`ModelSpec._serialize`, python/ctranslate2/specs/model_spec.py,
lines 382 to 414, at commit 0d8bcd3) and reads it (`Model::load`, src/models/model.cc, lines 594 to 777):

    uint32 version, string specification, uint32 its revision
    uint32 count, then of each variable: string name, uint8 rank, uint32 [rank] shape, uint8 type,
        uint32 bytes, its values
    uint32 count, then of each alias: string alias, string name of the variable

A string is a uint16, its bytes, and a NUL that counts as one of them. The types are those of `DataType`
(include/ctranslate2/types.h, line 16). No length is believed: each is compared with the bytes that are left.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

from retrainer.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

_VERSION = 6
_MOST_AXES = 8
_MOST_LETTERS = 200
_TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
_NUMPY = {"float32": "<f4", "int8": "i1", "int16": "<i2", "int32": "<i4", "float16": "<f2", "bfloat16": "<i2"}

_BYTES = {"float32": 4, "int8": 1, "int16": 2, "int32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Variable:
    """`offset`: of its values in the file."""

    type: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Contents:
    """What the file says of itself. `aliases`: a further name → the variable's."""

    specification: str
    revision: int
    variables: dict[str, Variable]
    aliases: dict[str, str]


def read_contents(path: Path) -> Contents:
    """All of it but the values. Raises ModelError where the file is cut short, too long or no such file."""
    try:
        with path.open("rb") as stream:
            return _Reader(path, stream).contents()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); copy it again") from None


def read_values(path: Path, variable: Variable) -> Tensor:
    """The values in their own type and shape; `variable` is one of `read_contents`."""
    import numpy as np
    import torch

    kind = np.dtype(_NUMPY[variable.type])
    values = np.fromfile(path, kind, prod(variable.shape), offset=variable.offset)
    if len(values) != prod(variable.shape):
        raise ModelError(f"{path} became shorter while it was read; copy it again")
    tensor = torch.from_numpy(values).reshape(variable.shape)
    return tensor.view(torch.bfloat16) if variable.type == "bfloat16" else tensor


class _Reader:
    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self.path, self.stream = path, stream
        self.left = path.stat().st_size

    def contents(self) -> Contents:
        version = self.number("<I")
        if version != _VERSION:
            self.refuse(f"it begins with {version}, where version {_VERSION} does")
        specification, revision = self.text(), self.number("<I")
        variables: dict[str, Variable] = {}
        for _ in range(self.number("<I")):
            name = self.text()
            if name in variables:
                self.refuse(f"{name} stands twice in it")
            variables[name] = self.variable(name)
        aliases: dict[str, str] = {}
        for _ in range(self.number("<I")):
            alias, name = self.text(), self.text()
            if alias in variables or alias in aliases or name not in variables:
                self.refuse(f"its alias {alias} of {name} cannot be")
            aliases[alias] = name
        if self.left:
            self.refuse(f"{self.left:,} bytes follow its end")
        return Contents(specification, revision, variables, aliases)

    def variable(self, name: str) -> Variable:
        rank = self.number("<B")
        if rank > _MOST_AXES:
            self.refuse(f"{name} has {rank} axes")
        shape, number = tuple(self.number("<I") for _ in range(rank)), self.number("<B")
        if number >= len(_TYPES):
            self.refuse(f"{name} is of the unknown type {number}")
        kind, size = _TYPES[number], self.number("<I")
        if size != prod(shape) * _BYTES[kind]:
            self.refuse(f"{name} claims {size:,} bytes for {kind} of the shape {list(shape)}")
        self.take(size)
        offset = self.stream.tell()
        self.stream.seek(size, 1)
        return Variable(kind, shape, offset)

    def text(self) -> str:
        size = self.number("<H")
        if not 1 < size <= _MOST_LETTERS:
            self.refuse(f"it has a name of {size - 1:,} letters")
        self.take(size)
        text = self.stream.read(size).decode("ascii", "replace")
        if not text.endswith("\0") or not text[:-1].isprintable() or "\ufffd" in text:
            self.refuse("it has a name that is no text")
        return text[:-1]

    def number(self, kind: str) -> int:
        size = struct.calcsize(kind)
        self.take(size)
        return int(struct.unpack(kind, self.stream.read(size))[0])

    def take(self, size: int) -> None:
        """Before `size` bytes are read or passed over."""
        if size > self.left:
            self.refuse(f"it ends {size - self.left:,} bytes too early")
        self.left -= size

    def refuse(self, why: str) -> NoReturn:
        raise ModelError(f"{self.path} is no whole model file of CTranslate2: {why}; copy it again")
