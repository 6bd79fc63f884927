"""Object detection: images and boxes move together, the loss and the predictions are what they say."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from retrainer.errors import UserError
from retrainer.formats.columns import TYPES
from retrainer.formats.names import CORNERS
from retrainer.models import torchvision as torchvision_family
from retrainer.models._network import Network
from retrainer.settings import Evaluation, Task, Training
from retrainer.tasks import object_detection
from retrainer.tasks._boxes import Augmentation, augment
from retrainer.tasks._fcos import FcosHead, assign
from retrainer.tasks._found_boxes import box_table
from tests.annotated_images import scene

LABELS = ("disc", "square")
TRAINING = Training.parse({"strategy": "scratch", "calibrate": False}, "training")


def task(**options: Any) -> object_detection.ObjectDetection:
    return object_detection.make(Task.parse({"kind": "object_detection", **options}, "task"), LABELS)


def table(*scenes: tuple[bytes, list[dict[str, Any]]]) -> pa.Table:
    images = [{"bytes": image, "path": None} for image, _ in scenes]
    columns = {
        "image": pa.array(images, TYPES["image"]),
        "boxes": pa.array([b for _, b in scenes], TYPES["boxes"]),
    }
    return pa.table(columns | {"origin": [f"image {number}" for number in range(len(scenes))]})


def preprocessing(height: int, width: int) -> dict[str, Any]:
    return {"kind": "pixels", "size": [height, width], "channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3}


def found_squares(pixels: torch.Tensor) -> torch.Tensor:
    """The corners [4] of what is white in a normalised image [3, H, W]."""
    places = (pixels[0] > 0.5).nonzero()
    top, left = places.amin(0)
    bottom, right = places.amax(0) + 1
    return torch.stack([left, top, right, bottom]).float()


def white_square(left: int, top: int, side: int, size: tuple[int, int]) -> tuple[bytes, list[dict[str, Any]]]:
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), (left, top, left + side, top + side))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    corners = map(float, (left, top, left + side, top + side))
    return buffer.getvalue(), [{"label": "square", **dict(zip(CORNERS, corners, strict=True))}]


def test_an_image_keeps_its_proportions_and_its_boxes_follow() -> None:
    rows = table(white_square(100, 20, 60, (200, 100)), white_square(4, 8, 24, (40, 80)))
    encoded = task().encode(rows, preprocessing(64, 64), {})
    batch = task().batch(encoded, np.arange(2), None)
    assert batch["pixels"].shape == (2, 3, 64, 64)
    assert batch["frame"][:, 0].tolist() == pytest.approx([0.32, 0.8])
    for pixels, objects in zip(batch["pixels"], batch["targets"], strict=True):
        assert objects[0, 0] == 1
        assert (found_squares(pixels) - objects[0, 1:]).abs().max() < 1.01
    # What is padded has the mean colour.
    assert batch["pixels"][0, :, 33:].abs().max() < 0.01


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(flip=True),
        Augmentation(flip_vertical=True),
        Augmentation(shift=12),
        Augmentation(scale=0.4),
        Augmentation(shift=8, scale=0.3, flip=True, flip_vertical=True, colour=0.2),
    ],
)
def test_boxes_move_with_their_images(augmentation: Augmentation) -> None:
    pixels = torch.zeros(32, 3, 64, 80)
    pixels[:, :, 24:44, 30:45] = 255.0
    targets = torch.tensor([[1.0, 30, 24, 45, 44], [-1, 0, 0, 0, 0]]).repeat(32, 1, 1)
    moved, objects = augment(pixels, targets, augmentation, torch.Generator().manual_seed(0))
    assert not torch.equal(moved, pixels)
    for image, found in zip(moved, objects, strict=True):
        assert found[0, 0] == 1 and found[1, 0] == -1
        assert (found_squares(image - 100) - found[0, 1:]).abs().max() < 1.51
    # Each image draws its own change.
    assert len({tuple(found[0].tolist()) for found in objects.round(decimals=3)}) > 1


def test_boxes_that_leave_the_image_are_cut_or_given_up() -> None:
    targets = torch.tensor([[[0.0, 0, 0, 10, 10], [0, 30, 30, 40, 40]]]).repeat(64, 1, 1)
    _, objects = augment(
        torch.zeros(64, 3, 64, 64), targets, Augmentation(shift=15), torch.Generator().manual_seed(0)
    )
    corner, middle = objects.unbind(1)
    assert (middle[:, 0] == 0).all()
    assert ((corner[:, 0] == -1).any() and (corner[:, 0] == 0).any()) and (corner[:, 1:] >= 0).all()
    sides = corner[:, 3:] - corner[:, 1:3]
    assert (sides[corner[:, 0] == 0].prod(-1) >= 0.3 * 100 - 1e-3).all()


def test_the_same_generator_draws_the_same_augmentation() -> None:
    encoded = task(shift=9, flip=True, colour=0.3).encode(
        table(scene(0), scene(1)), preprocessing(48, 64), {}
    )
    made = [
        task(shift=9, flip=True, colour=0.3).batch(encoded, np.arange(2), torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(made[0]["pixels"], made[1]["pixels"])
    assert torch.equal(made[0]["targets"], made[1]["targets"])
    assert not torch.equal(made[0]["pixels"], made[2]["pixels"])


def head() -> FcosHead:
    torch.manual_seed(0)
    return FcosHead([16, 24, 32], [8, 16, 32], classes=2, width=16, depth=1).eval()


def maps(images: int) -> list[torch.Tensor]:
    draws = torch.Generator().manual_seed(1)
    return [
        torch.randn(images, c, 96 // s, 128 // s, generator=draws) for c, s in ((16, 8), (24, 16), (32, 32))
    ]


def objects(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor([[*rows, *[(-1.0, 0, 0, 0, 0)] * (4 - len(rows))]])


def test_places_show_the_smallest_object_around_them_at_the_right_scale() -> None:
    places = head()(maps(1)).places
    small, large = (0.0, 40.0, 40.0, 60.0, 60.0), (1.0, 8.0, 8.0, 120.0, 90.0)
    chosen = assign(places, objects(small, large))[0]
    assert set(places.strides[chosen == 0].tolist()) == {8.0}
    assert set(places.strides[chosen == 1].tolist()) <= {8.0, 16.0}
    inside = places.points[chosen == 0]
    assert ((inside > 40) & (inside < 60)).all() and len(inside)
    assert (assign(places, objects()) == -1).all()


def test_a_rows_loss_does_not_depend_on_the_rows_beside_it() -> None:
    rows = torch.cat(
        [objects((0, 30, 30, 70, 60)), objects(), objects((1, 5, 5, 25, 25), (0, 60, 20, 90, 90))]
    )
    together = head()(maps(3)).losses(rows)
    alone = [head()([one[n : n + 1] for one in maps(3)]).losses(rows[n : n + 1]) for n in range(3)]
    assert together.shape == (3,) and together.dtype == torch.float32
    torch.testing.assert_close(together, torch.cat(alone))
    more = torch.nn.functional.pad(rows, (0, 0, 0, 7), value=-1.0)
    torch.testing.assert_close(together, head()(maps(3)).losses(more))


def test_a_perfect_answer_has_almost_no_loss_and_is_found() -> None:
    made = head()(maps(1))
    rows = objects((1, 30, 20, 70, 60), (0, 80, 10, 104, 40))
    chosen = assign(made.places, rows)[0]
    true = rows[0, chosen.clamp(min=0)]
    sides = torch.cat([made.places.points - true[:, 1:3], true[:, 3:] - made.places.points], 1)
    across, down = sides[:, 0::2], sides[:, 1::2]
    middle = ((across.amin(1) / across.amax(1)) * (down.amin(1) / down.amax(1))).clamp(min=1e-6).sqrt()
    one_hot = torch.nn.functional.one_hot(true[:, 0].long().clamp(min=0), 2) * (chosen >= 0)[:, None]
    perfect = type(made)(
        (one_hot * 40.0 - 20)[None], sides[None], torch.logit(middle.clamp(max=1 - 1e-6))[None], made.places
    )
    # What is left is the entropy of the centres' targets themselves.
    least = torch.nn.functional.binary_cross_entropy(middle, middle, reduction="none")[chosen >= 0].mean()
    assert float(perfect.losses(rows)[0] - least) == pytest.approx(0, abs=1e-3)
    frame = torch.tensor([[0.5, 256.0, 192.0]])
    options = object_detection.Options(score=0.3)
    found = box_table(perfect, frame, LABELS, options)["boxes"][0].as_py()
    assert sorted((box["label"], *(box[corner] for corner in CORNERS)) for box in found) == [
        ("disc", 160.0, 20.0, 208.0, 80.0),
        ("square", 60.0, 40.0, 140.0, 120.0),
    ]


def test_found_boxes_lie_in_the_image_sorted_and_no_more_than_asked_for() -> None:
    frames = torch.tensor([[1.0, 128, 96], [2.0, 64, 48]])
    options = object_detection.Options(score=0.0, most_boxes=7)
    rows = box_table(head()(maps(2)), frames, LABELS, options)
    for boxes, (width, height) in zip(rows["boxes"].to_pylist(), ((128, 96), (64, 48)), strict=True):
        assert len(boxes) == 7
        scores = [box["score"] for box in boxes]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= box["left"] < box["right"] <= width for box in boxes)
        assert all(0 <= box["top"] < box["bottom"] <= height for box in boxes)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_any_convolutional_body_gives_maps_and_is_restored(name: str) -> None:
    job = task(size=[64, 96], head_width=16)
    body = torchvision_family.build(torchvision_family.Options(name=name), job.input_spec(), None, 0, True)
    assert body.map_strides == (8, 16, 32)
    network = Network(body, job.head(body, TRAINING)).eval()
    again = torchvision_family.restore(body.config)
    other = Network(again, job.head(again, TRAINING)).eval()
    other.load_state_dict(network.state_dict())
    pixels = torch.rand(2, 3, 64, 96)
    features = network.features({"pixels": pixels})
    assert [one.shape[1] for one in features] == list(body.map_widths)
    assert [64 // one.shape[2] for one in features] == [8, 16, 32]
    network({"pixels": pixels}).losses(objects((1, 10, 10, 50, 50)).repeat(2, 1, 1)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert torch.equal(network({"pixels": pixels}).logits, other({"pixels": pixels}).logits)


def test_a_body_without_maps_is_refused() -> None:
    with pytest.raises(UserError, match="no feature maps"):
        torchvision_family.build(
            torchvision_family.Options(name="vit_b_16"), task(size=32).input_spec(), None, 0, True
        )


def test_baselines_answer_by_the_training_boxes() -> None:
    train, test = table(*(scene(n) for n in range(12))), table(scene(3), scene(40))
    usual, similar = task().baselines(train, test, Evaluation.parse({}, "evaluation")).found
    first, second = usual.predictions["boxes"].to_pylist()
    assert first == second and {box["label"] for box in first} == set(LABELS)
    for found, true in zip(similar.predictions["boxes"][0].as_py(), scene(3)[1], strict=True):
        assert found == pytest.approx(true | {"score": 1.0})


def test_classes_that_nobody_knows_are_refused_by_the_image() -> None:
    image, boxes = scene(0)
    with pytest.raises(UserError, match="image 0: 'star' is no class here"):
        task().targets(table((image, [boxes[0] | {"label": "star"}])))
    # A champion that never saw the class still predicts the image.
    encoded = task().encode(table((image, [boxes[0] | {"label": "star"}])), preprocessing(48, 64), {})
    assert (task().batch(encoded, np.arange(1), None)["targets"][..., 0] == -1).all()
    with pytest.raises(UserError, match="no box at all"):
        object_detection.make(Task.parse({"kind": "object_detection"}, "task"), ()).learn(table())
