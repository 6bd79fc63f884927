"""Images: what is left out by name, and what is read as it is meant."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from PIL import Image

from tests.bad_inputs.bricks import Case, encoded, image_folder, noise, png

JPG = encoded(Image.fromarray(noise(7, (60, 60, 3))), "JPEG")


def huge_png(side: int = 100_000) -> bytes:
    """A header that claims so many pixels a side, and next to no data."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [header, data, b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def long_gif(frames: int = 100_000) -> bytes:
    """One sound frame, repeated: 20 bytes each."""
    gif = encoded(Image.new("L", (1, 1)), "GIF")
    start = gif.index(b",")
    return gif[:start] + gif[start:-1] * frames + b";"


def odd_tiff() -> bytes:
    """Its tag says JPEG 2000, which no plain decoder of TIFF reads."""
    data = bytearray(encoded(Image.fromarray(noise(3)), "TIFF"))
    entry = struct.pack("<HHI", 259, 3, 1)
    struct.pack_into("<H", data, data.index(entry) + 8, 34_712)
    return bytes(data)


SLOPE = (np.arange(20 * 30)[:, None] * [0.4, 0.3, 0.2]).reshape(20, 30, 3).astype(np.uint8)


def rotated() -> bytes:
    note = Image.Exif()
    note[0x0112] = 6
    return encoded(Image.fromarray(SLOPE), "JPEG", quality=95, exif=note)


def see_through() -> bytes:
    image = Image.fromarray(noise(6)).convert("P")
    return encoded(image, "PNG", transparency=bytes(range(256)))


# An image that cannot be used is left out with its name and this reason.
LEFT_OUT = {
    "text.jpg": (b"hello", "not an image"),
    "cut.jpg": (JPG[: len(JPG) // 2], "broken image"),
    "cut.png": (encoded(Image.fromarray(noise(8, (60, 60))), "PNG")[:-100], "broken image"),
    "empty.png": (b"", "no image"),
    "huge.png": (huge_png(), "image too large"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no image"),
    "page.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "no image"),
    "page.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not an image"),
    "odd.tiff": (odd_tiff(), "(not an|broken) image"),
}
# These are read as they are meant.
USED = {
    "cmyk.jpg": encoded(Image.fromarray(noise(1, (12, 12, 4)), "CMYK"), "JPEG"),
    "sixteen.png": encoded(Image.fromarray(noise(2, kind=np.uint16)), "PNG"),
    "seethrough.png": see_through(),
    "turned.jpg": rotated(),
    "film.gif": long_gif(),
    "x" * 200 + ".png": png(99),
}
IMAGES = {
    "nothing but texts named jpg": Case(
        lambda folder: image_folder(folder, {f"{'ab'[n % 2]}/{n}.jpg": b"hello" for n in range(4)}),
        r"^preprocess: checks\.broken: 4 images .*0\.jpg: not an image.*: 100%",
        "preprocess",
    ),
    "no image at all": Case(
        lambda folder: image_folder(folder, {"cat/notes.txt": b"hello"}),
        r"photos holds no image .*notes\.txt",
    ),
    "an empty folder": Case(
        lambda folder: image_folder(folder, {".hidden": b""}), "photos has no rows to train on"
    ),
    "images in no class": Case(
        lambda folder: image_folder(folder, {f"{n}.png": png(n) for n in range(9)}),
        r"^preprocess: checks\.empty: 9 rows .*missing label.*: 100%",
        "preprocess",
    ),
}
