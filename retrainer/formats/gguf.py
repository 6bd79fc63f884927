"""GGUF, the file format of llama.cpp: metadata, and tensors as blocks of small whole numbers.

As ggml's own description has it (docs/gguf.md, version 3) and as the package gguf 0.19 reads it
(gguf_reader.py, quants.py), little-endian:

    "GGUF", uint32 version, uint64 tensors, uint64 entries
    of each entry of the metadata: string key, uint32 type, its value
    of each tensor: string name, uint32 axes, uint64 [axes] shape, innermost first, uint32 type, uint64 offset
    padding to `general.alignment` (32), from where offsets count; the tensors' values

A string is a uint64 and its bytes, an array a uint32 type, a uint64 count and its values. No length is
believed: each is compared with the bytes that are left, and no two tensors may share any.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, NoReturn

from retrainer.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".gguf"
_VERSIONS = (2, 3)
_MOST_AXES, _MOST_ENTRIES, _MOST_TENSORS = 4, 10_000, 100_000
_MOST_LETTERS = 1 << 20  # of a text in the metadata, as a chat template is one
_MOST_NAME = 200
_MOST_VALUES = 1 << 22  # of an array in the metadata: in memory one takes ten times as much as in the file
_ALIGNMENT = 32
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


class Kind(NamedTuple):
    """A way to store values: so many of them in a block of so many bytes."""

    name: str
    values: int
    bytes: int


# By ggml's numbers (ggml.h, `enum ggml_type`): those that can be read here.
_KINDS = {0: Kind("F32", 1, 4), 1: Kind("F16", 1, 2), 3: Kind("Q4_1", 32, 20), 8: Kind("Q8_0", 32, 34)}


@dataclass(frozen=True)
class Stored:
    """`shape` outermost first, as PyTorch has it; `offset`: of its bytes in the file."""

    kind: Kind
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        return prod(self.shape) // self.kind.values * self.kind.bytes


@dataclass(frozen=True)
class Contents:
    metadata: dict[str, Any]
    tensors: dict[str, Stored]


def read_contents(path: Path) -> Contents:
    """All of it but the tensors' values. Raises ModelError where it is cut short, or no such file."""
    try:
        with path.open("rb") as stream:
            return _Reader(path, stream).contents()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); copy it again") from None


def read_values(path: Path, stored: Stored) -> Tensor:
    """float32 in its shape; `stored` is one of `read_contents`."""
    import numpy as np
    import torch

    found = np.fromfile(path, np.uint8, stored.size, offset=stored.offset)
    if len(found) != stored.size:
        raise ModelError(f"{path} became shorter while it was read; copy it again")
    blocks = found.reshape(-1, stored.kind.bytes)
    if stored.kind.name == "Q8_0":  # a float16, by which 32 int8 are multiplied
        values = blocks[:, 2:].view(np.int8).astype(np.float32) * _halves(blocks, 0)
    elif stored.kind.name == "Q4_1":  # two float16, then 32 numbers from 0 to 15: scale x number + lowest
        low, high = blocks[:, 4:] & 0x0F, blocks[:, 4:] >> 4
        values = np.concatenate([low, high], 1).astype(np.float32) * _halves(blocks, 0) + _halves(blocks, 2)
    else:
        values = found.view(np.float32 if stored.kind.name == "F32" else np.float16).astype(np.float32)
    return torch.from_numpy(values.reshape(stored.shape))


def _halves(blocks: Any, at: int) -> Any:
    """float32 [blocks, 1]: the float16 that stands at byte `at` of each block."""
    import numpy as np

    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).astype(np.float32)


def _size(letter: str) -> int:
    return struct.calcsize(f"<{letter}")


class _Reader:
    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self.path, self.stream = path, stream
        self.size = self.left = path.stat().st_size

    def contents(self) -> Contents:
        if self.take(4) != b"GGUF":
            self.refuse("it does not begin with GGUF")
        version = self.number("I")
        if version not in _VERSIONS:
            self.refuse(f"it is of version {version}, and {_VERSIONS[0]} and {_VERSIONS[1]} are read")
        tensors, entries = self.count(_MOST_TENSORS, "tensors"), self.count(_MOST_ENTRIES, "entries")
        metadata: dict[str, Any] = {}
        for _ in range(entries):
            key = self.name()
            if key in metadata:
                self.refuse(f"{key} stands twice in it")
            metadata[key] = self.value(self.number("I"), key)
        infos: dict[str, tuple[Kind, tuple[int, ...], int]] = {}
        for _ in range(tensors):
            name = self.name()
            if name in infos:
                self.refuse(f"{name} stands twice in it")
            infos[name] = self.info(name)
        return Contents(metadata, self.placed(infos, metadata))

    def placed(self, infos: dict[str, tuple[Kind, tuple[int, ...], int]], metadata: Any) -> dict[str, Stored]:
        """Where each tensor's bytes lie: behind the padding, within the file, and none in another's."""
        align = metadata.get("general.alignment", _ALIGNMENT)
        if not isinstance(align, int) or align < 8 or align & (align - 1):
            self.refuse(f"its general.alignment is {align}, which is no power of two from 8 on")
        begin = -(-(self.size - self.left) // align) * align
        found = {name: Stored(kind, shape, begin + at) for name, (kind, shape, at) in infos.items()}
        end = begin
        for name, one in sorted(found.items(), key=lambda item: item[1].offset):
            if one.offset < end or one.offset % align or one.offset + one.size > self.size:
                self.refuse(f"{name} lies where it cannot, at byte {one.offset:,} of {self.size:,}")
            end = one.offset + one.size
        return found

    def info(self, name: str) -> tuple[Kind, tuple[int, ...], int]:
        axes = self.number("I")
        if not 0 < axes <= _MOST_AXES:
            self.refuse(f"{name} has {axes} axes")
        shape = tuple(self.number("Q") for _ in range(axes))[::-1]
        number, offset = self.number("I"), self.number("Q")
        kind = _KINDS.get(number)
        if kind is None:
            known = ", ".join(one.name for one in _KINDS.values())
            raise ModelError(
                f"{self.path}: {name} is stored in a way (type {number} of ggml's) that is not read; take the"
                f" same model in one of {known}"
            )
        if not prod(shape) or shape[-1] % kind.values or prod(shape) > 8 * self.size:
            self.refuse(f"{name} cannot have the shape {list(shape)} as {kind.name}")
        return kind, shape, offset

    def value(self, kind: int, key: str) -> Any:
        if kind == _STRING:
            return self.text(_MOST_LETTERS)
        if kind == _ARRAY:
            return self.array(key)
        if kind not in _SCALARS:
            self.refuse(f"{key} is of the unknown type {kind}")
        return self.number(_SCALARS[kind])

    def array(self, key: str) -> list[Any]:
        kind, count = self.number("I"), self.number("Q")
        if kind == _STRING:
            if count > min(self.left // 8, _MOST_VALUES):
                self.refuse(f"{key} claims {count:,} texts")
            return [self.text(_MOST_LETTERS) for _ in range(count)]
        if kind not in _SCALARS:
            self.refuse(f"{key} is an array of the type {kind}")
        letter = _SCALARS[kind]
        if count > min(self.left // _size(letter), _MOST_VALUES):
            self.refuse(f"{key} claims {count:,} numbers")
        return list(struct.unpack(f"<{count}{letter}", self.take(count * _size(letter))))

    def name(self) -> str:
        found = self.text(_MOST_NAME)
        if not found.isascii() or not found.isprintable() or not found:
            self.refuse("it has a name that is no text")
        return found

    def text(self, most: int) -> str:
        size = self.number("Q")
        if size > most:
            self.refuse(f"it has a text of {size:,} bytes")
        try:
            return self.take(size).decode()
        except UnicodeDecodeError:
            self.refuse("it has a text that is not UTF-8")

    def count(self, most: int, what: str) -> int:
        found = self.number("Q")
        if found > most:
            self.refuse(f"it claims {found:,} {what}")
        return found

    def number(self, letter: str) -> Any:
        return struct.unpack(f"<{letter}", self.take(_size(letter)))[0]

    def take(self, size: int) -> bytes:
        if size > self.left:
            self.refuse(f"it ends {size - self.left:,} bytes too early")
        self.left -= size
        return self.stream.read(size)

    def refuse(self, why: str) -> NoReturn:
        raise ModelError(f"{self.path} is no whole GGUF file: {why}; copy it again")
