"""What the tasks share that read one image of a fixed size. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from retrainer.settings import Section

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from torch import Tensor

    from retrainer.tasks._pixels import Pixels


class ImageOptions(Section):
    """Keys of `task:`. From `shift` on: augmentation, drawn afresh per image and epoch."""

    size: int = Field(0, ge=0, description="height and width in pixels; 0: the model family's own")
    channels: Literal[0, 1, 3] = Field(0, description="1 grey, 3 colour; 0: the model family's own")
    shift: int = Field(0, ge=0, description="largest shift, in pixels, up, down, left and right")
    rotate_degrees: float = Field(0.0, ge=0, le=180, description="largest turn to either side")
    scale: float = Field(0.0, ge=0, lt=1, description="largest relative change of size; 0.1: 0.9 to 1.1")
    flip: bool = Field(False, description="mirror half of the images, left to right")
    randaugment: float = Field(
        0.0, ge=0, le=10, description="magnitude of two random changes of shape or colour an image; 0: none"
    )
    cutout: int = Field(
        0, ge=0, description="side, in pixels, of a square that is blanked somewhere in each image; 0: none"
    )


class ImageInput:
    """Reads `image`, the encoded bytes of any format that Pillow opens."""

    input_columns: Mapping[str, str] = {"image": "image"}
    options: ImageOptions

    def input_spec(self) -> dict[str, Any]:
        size = [self.options.size] * 2 if self.options.size else None
        return {"kind": "pixels", "size": size, "channels": self.options.channels or None}

    def encode(self, table: pa.Table, preprocessing: dict[str, Any], assets: dict[str, bytes]) -> Pixels:  # noqa: ARG002
        """Decodes every image once, to uint8 [N, C, H, W] of the body's size."""
        from retrainer.tasks._pixels import encode_images

        return encode_images(table, preprocessing)

    def batch(
        self, encoded: Pixels, rows: np.ndarray, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """`pixels`: float32 [B, C, H, W]; with a generator each image gets its own augmentation."""
        from retrainer.tasks._pixels import Augmentation

        options = self.options
        augmentation = Augmentation(
            options.shift,
            options.rotate_degrees,
            options.scale,
            options.flip,
            options.randaugment,
            options.cutout,
        )
        return encoded.batch(rows, augmentation, generator)

    def lengths(self, encoded: Pixels) -> np.ndarray | None:  # noqa: ARG002
        """None: all images have one size."""
        return None

    def slices(self) -> Mapping[str, Callable[[pa.Table], list[str]]]:
        """By `brightness`."""
        from retrainer.tasks._slices import brightness

        return {"brightness": brightness}
