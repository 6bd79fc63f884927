"""Small copies of images for a page."""

from __future__ import annotations

import base64
import io

_THUMBNAIL_PIXELS = 144
# Smaller images are shown with their pixels enlarged; PNG keeps them sharp.
_SMALL_PIXELS = 64


def thumbnail(encoded: bytes, name: str) -> tuple[str, bool]:
    """A small copy as a data URI (nothing but pixels is in it), and whether its pixels are to be enlarged.

    A large image is cut to the square in its centre, as the tasks do.
    """
    from PIL import Image

    from retrainer.tasks._decode_image import decode_image

    with Image.open(io.BytesIO(encoded)) as image:
        width, height = image.size
    small = max(width, height) <= _SMALL_PIXELS
    size = (height, width) if small else (_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS)
    picture = Image.fromarray(decode_image(encoded, size, 3, name).transpose(1, 2, 0))
    buffer = io.BytesIO()
    if small:
        picture.save(buffer, "PNG", optimize=True)
    else:
        picture.save(buffer, "JPEG", quality=80)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", small
