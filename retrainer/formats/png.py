"""PNG files of parts that are made here (PNG specification, third edition, 5.3)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_file(size: tuple[int, int], colour_type: int, chunks: Mapping[bytes, bytes]) -> bytes:
    """Of 8 bits a sample. `size`: height and width; `chunks`: what stands between IHDR and IEND, by name."""
    height, width = size
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    parts = {b"IHDR": header, **chunks, b"IEND": b""}
    return _SIGNATURE + b"".join(_chunk(kind, body) for kind, body in parts.items())


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
