"""Semantic segmentation: one image → a class for each of its pixels. Imports nothing heavy.

Legend: N rows, B rows of a batch, K classes, H and W the sides of what the network sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from retrainer.errors import DataError, SettingError
from retrainer.settings import Section, Task
from retrainer.tasks._protocol import Baselines, ClassFigure, Judged

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from torch import Tensor, nn

    from retrainer.settings import Evaluation, Training
    from retrainer.tasks._mask_rows import MaskRows

_MOST_CLASSES = 255  # 255 stands for pixels that do not count


class Options(Section):
    """Further keys of `task:`. From `shift` on: augmentation, drawn afresh per image and epoch."""

    size: int | tuple[int, int] = Field(
        256, description="pixels of the image that the network sees: a side, or [height, width]"
    )
    channels: Literal[0, 1, 3] = Field(0, description="1 grey, 3 colour; 0: the model family's own")
    finest: Literal[4, 8, 16] = Field(
        4, description="pixels a side of the finest map's places; 8: faster, with coarser borders"
    )
    head_width: int = Field(64, ge=8, multiple_of=8, description="channels of the head")
    shift: int = Field(0, ge=0, description="largest shift, in pixels, up, down, left and right")
    scale: float = Field(0.0, ge=0, lt=1, description="largest relative change of size; 0.3: 0.7 to 1.3")
    flip: bool = Field(False, description="mirror half of the images, left to right")
    flip_vertical: bool = Field(False, description="mirror half of the images, top to bottom")
    colour: float = Field(
        0.0, ge=0, lt=1, description="largest relative change of brightness, contrast and saturation"
    )


def make(task: Task, labels: tuple[str, ...]) -> SemanticSegmentation:
    """The task for these classes. Raises UserError for an unknown key of `task:`."""
    if task.multi_label:
        raise SettingError(
            "task.multi_label has no meaning for semantic_segmentation: a pixel has one class; leave it out"
        )
    return SemanticSegmentation(Options.parse(task.options, "task"), labels)


class SemanticSegmentation:
    """Reads `image`; its truth is `mask`, of the whole image (`retrainer.formats.masks`), and so is its
    prediction.
    """

    input_columns: Mapping[str, str] = {"image": "image"}
    target_columns: Mapping[str, str] = {"mask": "mask"}
    metrics = ("mean_iou", "mean_dice", "pixel_accuracy")
    abilities: frozenset[str] = frozenset({"label_smoothing"})

    def __init__(self, options: Options, labels: tuple[str, ...]) -> None:
        self.options = options
        self.labels = labels

    # --- training ---

    def learn(self, train: pa.Table) -> None:  # noqa: ARG002 (the classes are the dataset's)
        """Raises UserError where there is nothing to tell apart, or too much."""
        if len(self.labels) < 2:
            raise DataError(
                f"the masks have the classes {list(self.labels)}; a segmentation needs two or more: give the"
                " background a name too, in place of source.ignore"
            )
        if len(self.labels) > _MOST_CLASSES:
            raise DataError(f"the masks have {len(self.labels)} classes; at most {_MOST_CLASSES} fit a mask")

    def input_spec(self) -> dict[str, Any]:
        """`maps`: the body gives feature maps of several scales, the finest at a stride of `finest`."""
        size = self.options.size
        sides = [size, size] if isinstance(size, int) else list(size)
        channels = self.options.channels or None
        return {
            "kind": "pixels",
            "size": sides,
            "channels": channels,
            "maps": True,
            "finest": self.options.finest,
        }

    def head(self, body: Any, training: Training) -> nn.Module:
        """A feature pyramid on the body's maps. Raises UserError for a body without maps."""
        from retrainer.tasks._mask_head import MaskHead

        if not self.labels:
            raise DataError("the model's 'labels' must name the classes, one or more")
        if not body.map_widths:
            raise SettingError(
                "backbone.family: semantic_segmentation needs a convolutional network with feature maps; set"
                " torchvision or timm"
            )
        return MaskHead(body.map_widths, len(self.labels), self.options.head_width, training.dropout)

    def encode(
        self,
        table: pa.Table,
        preprocessing: dict[str, Any],
        assets: dict[str, bytes],  # noqa: ARG002
    ) -> MaskRows:
        """Decodes every image and mask once, scaled to fit the body's size and padded."""
        from retrainer.tasks._mask_rows import encode

        return encode(table, preprocessing, self.labels)

    def targets(self, table: pa.Table) -> np.ndarray:
        """int64 [N] of zeros: a mask moves with its image, so each batch brings its own."""
        import numpy as np

        return np.zeros(len(table), np.int64)

    def batch(
        self, encoded: MaskRows, rows: np.ndarray, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """`pixels`, `frame` (how to get back to the whole image) and, with truth, `targets`."""
        from retrainer.tasks._boxes import Augmentation

        return encoded.batch(rows, Augmentation.of(self.options), generator)

    def lengths(self, encoded: MaskRows) -> np.ndarray | None:  # noqa: ARG002
        """None: all images have one size."""
        return None

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Logits [B, K, H, W] and classes [B, H, W] (-1: none) → [B]: the mean cross entropy of the image's
        pixels that have a class; 0 where none has.
        """
        from torch.nn import functional

        each = functional.cross_entropy(
            outputs.float(), targets, ignore_index=-1, reduction="none", label_smoothing=label_smoothing
        )
        counted = (targets >= 0).sum((1, 2)).clamp(min=1)
        return each.sum((1, 2)) / counted

    def figures(self, outputs: Tensor, targets: Tensor) -> dict[str, np.ndarray]:
        """`pixel_accuracy`: the share of an image's pixels whose class is right, of what the network sees."""
        right = ((outputs.argmax(1) == targets) & (targets >= 0)).sum((1, 2))
        shares = right / (targets >= 0).sum((1, 2)).clamp(min=1)
        return {"pixel_accuracy": shares.double().cpu().numpy()}

    # --- answers ---

    def predict(self, network: Any, batch: dict[str, Tensor], temperature: float) -> pa.Table:  # noqa: ARG002
        """`mask`: an encoded PNG of the whole image's size, and the classes of its values."""
        from retrainer.tasks._mask_answers import mask_table

        return mask_table(network(batch), batch["frame"], self.labels)

    def faults(self, table: pa.Table) -> list[str | None]:
        """Masks that do not decode, are of another size than their image, or have no class at all."""
        from retrainer.formats.columns import each
        from retrainer.tasks._mask_faults import fault

        rows = zip(each(table["image"]), each(table["mask"]), strict=True)
        return [fault(image, mask) for image, mask in rows]

    def comparable(self, first: pa.Table, second: pa.Table) -> tuple[pa.Table, pa.Table]:
        """As they are: each mask names its own classes."""
        return first, second

    # --- judgement ---

    def baselines(self, train: pa.Table, test: pa.Table, evaluation: Evaluation) -> Baselines:
        """The commonest class everywhere; and a logistic regression on each pixel's colour and place."""
        from retrainer.tasks._mask_baselines import baselines

        return baselines(train, test, evaluation)

    def class_figures(self, predictions: pa.Table, truth: pa.Table) -> Mapping[str, ClassFigure]:
        """Each class's intersection over union."""
        from retrainer.tasks._mask_details import class_figures

        return class_figures(predictions, truth)

    def details(self, judged: Judged) -> dict[str, Any]:
        """`per_class`: intersection over union and Dice; what is taken for what; see `_mask_details`."""
        from retrainer.tasks._mask_details import details

        return details(judged)

    def panels(self, judged: Judged, report: dict[str, Any]) -> list[str]:
        """Each class, the commonest confusions, and images beside their true and found masks."""
        from retrainer.tasks._mask_panels import panels

        return panels(judged, report["details"])

    def slices(self) -> Mapping[str, Callable[[pa.Table], list[str]]]:
        """By `brightness`."""
        from retrainer.tasks._slices import brightness

        return {"brightness": brightness}
