"""Object detection: one image → the boxes of its objects, each with a class and a score.

Imports nothing heavy. Legend: N rows, B rows of a batch, M objects of a row (padded), K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from retrainer.errors import DataError, SettingError
from retrainer.settings import Evaluation, Section, Task, Training
from retrainer.tasks._protocol import Baselines, ClassFigure, Judged

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from torch import Tensor, nn

    from retrainer.tasks._letterbox import DetectionRows


class Options(Section):
    """Further keys of `task:`. From `shift` on: augmentation, drawn afresh per image and epoch."""

    size: int | tuple[int, int] = Field(
        320, description="pixels of the image that the network sees: a side, or [height, width]"
    )
    channels: Literal[0, 1, 3] = Field(0, description="1 grey, 3 colour; 0: the model family's own")
    head_width: int = Field(96, ge=8, multiple_of=8, description="channels of the detector's head")
    head_depth: int = Field(2, ge=0, description="convolutions of its two towers")
    overlap: float = Field(
        0.6, gt=0, lt=1, description="of two boxes of a class that overlap more (IoU), the surer one stays"
    )
    score: float = Field(0.02, ge=0, lt=1, description="boxes of a lower score are left out")
    most_boxes: int = Field(100, ge=1, description="of an image, those with the highest scores")
    shift: int = Field(0, ge=0, description="largest shift, in pixels, up, down, left and right")
    scale: float = Field(0.0, ge=0, lt=1, description="largest relative change of size; 0.3: 0.7 to 1.3")
    flip: bool = Field(False, description="mirror half of the images, left to right")
    flip_vertical: bool = Field(False, description="mirror half of the images, top to bottom")
    colour: float = Field(
        0.0, ge=0, lt=1, description="largest relative change of brightness, contrast and saturation"
    )


def make(task: Task, labels: tuple[str, ...]) -> ObjectDetection:
    """The task for these classes. Raises UserError for an unknown key of `task:`."""
    if task.multi_label:
        raise SettingError(
            "task.multi_label has no meaning for object_detection: a box has one class; leave it out"
        )
    return ObjectDetection(Options.parse(task.options, "task"), labels)


class ObjectDetection:
    """Reads `image`; its truth is `boxes`, in pixels of the whole image. Predictions have `boxes` too, each
    with a `score`, the highest first.
    """

    input_columns: Mapping[str, str] = {"image": "image"}
    target_columns: Mapping[str, str] = {"boxes": "boxes"}
    metrics = ("average_precision_50", "average_precision")
    abilities: frozenset[str] = frozenset()

    def __init__(self, options: Options, labels: tuple[str, ...]) -> None:
        self.options = options
        self.labels = labels

    def learn(self, train: pa.Table) -> None:  # noqa: ARG002 (the classes are the dataset's)
        """Raises UserError where there is nothing to find."""
        if not self.labels:
            raise DataError("the training rows have no box at all, so there is nothing to learn; add some")

    def input_spec(self) -> dict[str, Any]:
        """`maps`: the body gives feature maps of several scales; `classes`: for a body that is a detector."""
        size = self.options.size
        sides = [size, size] if isinstance(size, int) else list(size)
        channels = self.options.channels or None
        return {
            "kind": "pixels",
            "size": sides,
            "channels": channels,
            "maps": True,
            "classes": len(self.labels),
        }

    def head(self, body: Any, training: Training) -> nn.Module:  # noqa: ARG002 (no dropout in a detector)
        """FCOS's on the body's maps; nothing on a body that is a whole detector."""
        from retrainer.tasks._fcos import FcosHead
        from retrainer.tasks._heads import PassOn

        if not body.map_widths:
            return PassOn()
        width, depth = self.options.head_width, self.options.head_depth
        return FcosHead(body.map_widths, body.map_strides, len(self.labels), width, depth)

    def encode(
        self,
        table: pa.Table,
        preprocessing: dict[str, Any],
        assets: dict[str, bytes],  # noqa: ARG002
    ) -> DetectionRows:
        """Decodes every image once, scaled to fit the body's size and padded."""
        from retrainer.tasks._letterbox import encode

        return encode(table, preprocessing, self.labels)

    def targets(self, table: pa.Table) -> np.ndarray:
        """float32 [N, M, 5]: class (-1: none) and corners in pixels of the whole image. The batches have
        their own, which move with the images.
        """
        from retrainer.tasks._letterbox import objects_of

        return objects_of(table, self.labels)

    def batch(
        self, encoded: DetectionRows, rows: np.ndarray, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """`pixels`, `frame` (how to get back to the whole image's pixels) and, with truth, `targets`."""
        from retrainer.tasks._boxes import Augmentation

        return encoded.batch(rows, Augmentation.of(self.options), generator)

    def lengths(self, encoded: DetectionRows) -> np.ndarray | None:  # noqa: ARG002
        """None: all images have one size."""
        return None

    def loss(self, outputs: Any, targets: Tensor, label_smoothing: float) -> Tensor:  # noqa: ARG002
        """The detector's own loss, per image [B]."""
        return outputs.losses(targets)

    def figures(self, outputs: Any, targets: Tensor) -> dict[str, np.ndarray]:  # noqa: ARG002
        """None: average precision ranks the boxes of all images, and is no mean over them."""
        return {}

    def predict(self, network: Any, batch: dict[str, Tensor], temperature: float) -> pa.Table:  # noqa: ARG002
        """`boxes`, list of {label, score, left, top, right, bottom}, in pixels of the whole image."""
        from retrainer.tasks._found_boxes import box_table

        return box_table(network(batch), batch["frame"], self.labels, self.options)

    def comparable(self, first: pa.Table, second: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Both say how many boxes an image has at most, so that their statistics have one shape."""
        from retrainer.tasks._found_boxes import with_most_boxes

        return with_most_boxes(first, second)

    def baselines(self, train: pa.Table, test: pa.Table, evaluation: Evaluation) -> Baselines:
        """The usual boxes, the same for every image; and those of the most similar training image."""
        from retrainer.tasks._box_baselines import baselines

        return baselines(train, test, evaluation)

    def class_figures(self, predictions: pa.Table, truth: pa.Table) -> Mapping[str, ClassFigure]:
        """Each class's average precision."""
        from retrainer.tasks._class_figures import average_precisions

        return average_precisions(predictions, truth)

    def details(self, judged: Judged) -> dict[str, Any]:
        """`per_class`: average precision, precision and recall; see `_box_details`."""
        from retrainer.tasks._box_details import details

        return details(judged)

    def panels(self, judged: Judged, report: dict[str, Any]) -> list[str]:
        """Each class, precision and recall, and images with true and found boxes."""
        from retrainer.tasks._box_panels import panels

        return panels(judged, report["details"])

    def slices(self) -> Mapping[str, Callable[[pa.Table], list[str]]]:
        """By `brightness`."""
        from retrainer.tasks._slices import brightness

        return {"brightness": brightness}
