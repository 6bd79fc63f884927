"""What an image's file says of its class: format, size, colour mode, EXIF, camera, quality, bytes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrainer.data.images import of_each_file
from retrainer.data.probes._rows import CONTENT, NO_CONTENT, Sample, Shortcut, binned, codes_of, judged
from retrainer.formats.images import IMAGE_FORMATS

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_ROWS = 4096
_MAKE, _MODEL, _SOFTWARE, _ORIENTATION = 0x010F, 0x0110, 0x0131, 0x0112
_NO_FILE: dict[str, str] = {}


def probe(rows: Sample) -> Iterator[Shortcut]:
    rows = rows.first(MOST_ROWS)
    for name in rows.columns.inputs_of("image"):
        facts = of_each_file(rows.table[name], _facts, _NO_FILE)
        for what in dict.fromkeys(what for fact in facts for what in fact):
            values = codes_of([fact.get(what) for fact in facts])
            if found := judged(rows, what, values, NO_CONTENT):
                yield found
        sizes = pc.binary_length(pc.struct_field(rows.table[name], 0)).to_numpy()
        if found := judged(rows, "the number of bytes of the image's file", binned(sizes, rows.fit), CONTENT):
            yield found


def _facts(encoded: pa.Buffer) -> dict[str, str]:
    """From the header; no pixel is decoded."""
    from PIL import Image

    try:
        with Image.open(BytesIO(encoded), formats=IMAGE_FORMATS) as image:
            return _of_header(image)
    except Exception:  # whatever a decoder raises on strange bytes, nothing is known of it
        return _NO_FILE


def _of_header(image: Image) -> dict[str, str]:
    exif = image.getexif()
    tables = getattr(image, "quantization", None) or {}
    camera = [exif.get(tag) for tag in (_MAKE, _MODEL, _SOFTWARE)]
    return {
        "the image's format": str(image.format),
        "the image's size": f"{image.width}x{image.height}",
        "the image's shape (wide or high)": str(np.sign(image.width - image.height)),
        "the image's colour mode": image.mode,
        "whether the image has EXIF": str(bool(exif)),
        "the camera or program in the image's EXIF": repr(camera),
        "the orientation in the image's EXIF": str(exif.get(_ORIENTATION)),
        "the image's JPEG quality": str(zlib.crc32(repr(sorted(tables.items())).encode())),
        "the kinds of notes in the image's file": repr(sorted(map(str, image.info))),
    }
