"""Semantic segmentation: images and masks move together; the metrics are the field's; the source refuses."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from retrainer.data.sources import digit_scenes, image_masks
from retrainer.data.splits import content_keys
from retrainer.errors import UserError
from retrainer.formats.masks import IGNORED, mask_png, read_mask
from retrainer.metrics import _masks, mean_dice, mean_iou, pixel_accuracy
from retrainer.models import torchvision as torchvision_family
from retrainer.models._network import Network
from retrainer.registry.serving_check import _alike
from retrainer.settings import Evaluation, Source, Task, Training
from retrainer.tasks import semantic_segmentation
from retrainer.tasks._boxes import Augmentation, augment_masks
from retrainer.tasks._mask_answers import mask_table
from tests.masked_images import CLASSES, mask_file, masked_folder, masks, png, rows, scene

TRAINING = Training.parse({"strategy": "scratch", "calibrate": False}, "training")
SIZE = {"kind": "pixels", "size": [48, 64], "channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3}


def task(**options: Any) -> semantic_segmentation.SemanticSegmentation:
    section = Task.parse({"kind": "semantic_segmentation", **options}, "task")
    return semantic_segmentation.make(section, CLASSES)


def read(path: Path, **keys: Any) -> pa.Table:
    source = Source.parse({"kind": "image_masks", "path": str(path), **keys}, "source")
    return pa.concat_tables(image_masks.read(source))


# --- metrics ---------------------------------------------------------------------------------------------


def test_metrics_equal_torchvisions_reference_and_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.metrics import confusion_matrix, f1_score, jaccard_score

    monkeypatch.setattr(_masks, "_PIXELS_AT_ONCE", 7 * 40)  # as of a large mask

    draws = np.random.default_rng(0)
    true = [draws.integers(0, 3, (30, 40)).astype(np.uint8) for _ in range(6)]
    found = [np.where(draws.random((30, 40)) < 0.3, draws.integers(0, 3, (30, 40)), one) for one in true]
    found = [one.astype(np.uint8) for one in found]
    for one in true:
        one[:, :5] = 255
    counted = np.concatenate([one.ravel() for one in true]) < 3
    flat = [np.concatenate([one.ravel() for one in part])[counted] for part in (true, found)]
    # As its references/segmentation/utils.py has it: the diagonal over rows and columns less the diagonal.
    matrix = confusion_matrix(*flat)
    right = matrix.diagonal()
    iou = right / (matrix.sum(1) + matrix.sum(0) - right)
    tables = masks(*found), masks(*true)
    assert mean_iou.statistics is mean_dice.statistics  # which are computed once, where that is so
    values = {
        metric.TITLE: float(metric.value(metric.statistics(*tables).sum(0)))
        for metric in (mean_iou, mean_dice, pixel_accuracy)
    }
    assert values["mean IoU"] == pytest.approx(iou.mean(), abs=1e-12)
    assert values["pixel accuracy"] == pytest.approx(right.sum() / matrix.sum(), abs=1e-12)
    assert values["mean IoU"] == pytest.approx(jaccard_score(*flat, average="macro"), abs=1e-12)
    assert values["mean Dice"] == pytest.approx(f1_score(*flat, average="macro"), abs=1e-12)


def test_a_class_goes_by_its_name_and_a_foreign_one_is_a_mistake() -> None:
    true = masks(np.array([[0, 1], [2, 255]], np.uint8))
    swapped = masks(np.array([[2, 1], [0, 0]], np.uint8), classes=CLASSES[::-1])
    assert float(mean_iou.value(mean_iou.statistics(swapped, true).sum(0))) == 1.0
    foreign = masks(np.array([[0, 1], [2, 2]], np.uint8), classes=("background", "disc", "cat"))
    statistics = mean_iou.statistics(foreign, true)
    assert statistics.tolist() == [[1, 1, 0, 1, 1, 1]]
    assert float(pixel_accuracy.value(pixel_accuracy.statistics(foreign, true).sum(0))) == pytest.approx(
        2 / 3
    )


# --- images and masks move together ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(flip=True, flip_vertical=True),
        Augmentation(shift=12),
        Augmentation(scale=0.4),
        Augmentation(shift=8, scale=0.3, flip=True, colour=0.1),
    ],
)
def test_masks_move_with_their_images(augmentation: Augmentation) -> None:
    pixels, classes = torch.zeros(16, 3, 64, 80), torch.zeros(16, 64, 80, dtype=torch.int64)
    pixels[:, :, 24:44, 30:45], classes[:, 24:44, 30:45] = 255.0, 1
    moved, truth = augment_masks(pixels, classes, augmentation, torch.Generator().manual_seed(0))
    assert not torch.equal(moved, pixels)
    for image, mask in zip(moved, truth, strict=True):
        assert ((image[0] > 128) & (mask != 1)).sum() <= 45 and ((image[0] < 120) & (mask == 1)).sum() <= 45
    # What comes from outside has no class, where something does.
    assert bool((truth == -1).any()) == bool(augmentation.shift or augmentation.scale)


def test_a_letterboxed_mask_lies_on_its_image_and_comes_back_whole() -> None:
    table = rows(0, 1)
    encoded = task().encode(table, SIZE | {"size": [40, 32]}, {})
    batch = task().batch(encoded, np.arange(2), None)
    assert batch["targets"].shape == (2, 40, 32) and batch["pixels"].shape == (2, 3, 40, 32)
    assert (batch["targets"][:, 24:] == -1).all()  # padded
    logits = torch.nn.functional.one_hot(batch["targets"].clamp(min=0), 3).permute(0, 3, 1, 2).float()
    found = mask_table(logits, batch["frame"], CLASSES)
    for mask, number in zip(found["mask"].to_pylist(), (0, 1), strict=True):
        values, true = read_mask(mask["image"]["bytes"], ""), scene(number)[1]
        assert values.shape == true.shape == (48, 64)
        assert ((values != true) & (true != IGNORED)).mean() < 0.06  # borders, at half the size


def test_the_loss_is_each_rows_own_and_ignored_pixels_do_not_count() -> None:
    torch.manual_seed(0)
    outputs, targets = torch.randn(3, 3, 8, 8), torch.randint(0, 3, (3, 8, 8))
    targets[0, :4], targets[1] = -1, -1
    losses = task().loss(outputs, targets, 0.0)
    assert losses.shape == (3,) and losses[1] == 0
    expected = torch.nn.functional.cross_entropy(outputs[:1, :, 4:], targets[:1, 4:])
    assert losses[0].item() == pytest.approx(expected.item(), rel=1e-6)
    changed = outputs.clone()
    changed[0, :, :4] += 7
    torch.testing.assert_close(task().loss(changed, targets, 0.1), task().loss(outputs, targets, 0.1))


def test_a_small_network_learns_masks_and_is_restored() -> None:
    torch.manual_seed(0)
    one = task(size=[48, 64])
    name = torchvision_family.Options(name="shufflenet_v2_x0_5")
    body = torchvision_family.build(name, one.input_spec(), None, 0, True)
    assert body.map_strides == (4, 8, 16, 32)
    assert torchvision_family.restore(body.config).map_widths == body.map_widths
    network = Network(body, one.head(body, TRAINING))
    encoded = one.encode(rows(*range(4)), body.preprocessing, {})
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3)
    first = last = 0.0
    for step in range(12):
        batch = one.batch(encoded, np.arange(4), None)
        loss = one.loss(network(batch), batch["targets"], 0.0).mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        first, last = (loss.item() if step == 0 else first), loss.item()
    assert last < 0.5 * first


def test_the_head_needs_maps_and_two_classes() -> None:
    from retrainer.models import mlp

    body = mlp.build(mlp.Options(), task(size=8).input_spec(), None, 0, True)
    with pytest.raises(UserError, match="needs a convolutional network with feature maps"):
        task(size=8).head(body, TRAINING)
    with pytest.raises(UserError, match="needs two or more"):
        semantic_segmentation.make(Task.parse({"kind": "semantic_segmentation"}, "task"), ("a",)).learn(
            rows(0)
        )


# --- baselines -------------------------------------------------------------------------------------------


def test_baselines_are_the_commonest_class_and_a_regression_on_pixels() -> None:
    train, test = rows(*range(6)), rows(7, 8)
    always, regression = task().baselines(train, test, Evaluation()).found
    assert always.title == "background everywhere"
    values = [
        float(mean_iou.value(mean_iou.statistics(b.predictions, test).sum(0))) for b in (always, regression)
    ]
    assert values[0] < 0.3 and values[1] > 0.9  # the colours of these shapes tell all
    assert len(task().baselines(train, test, Evaluation(baseline=False)).found) == 1


# --- masks as values -------------------------------------------------------------------------------------


def test_a_mask_is_read_grey_and_with_a_palette_and_written_as_it_was() -> None:
    _, values = scene(3)
    for data in (mask_file(values), mask_file(values, palette=True), mask_png(values)):
        assert np.array_equal(read_mask(data, ""), values)
    with pytest.raises(UserError, match="row 7: the mask cannot be read: its mode is RGB; save it grey"):
        read_mask(scene(3)[0], "row 7")
    with pytest.raises(UserError, match="row 7: the mask cannot be read: it is empty"):
        read_mask(b"", "row 7")


def test_equal_masks_have_one_key_and_others_another() -> None:
    values = scene(1)[1]
    table = pa.concat_tables([masks(values), masks(values), masks(values, classes=("a", "b", "c"))])
    same, again, other = content_keys(table, ["mask"], exact=True)
    assert same == again != other


def test_what_is_served_may_differ_in_a_pixel_and_no_more() -> None:
    import base64

    values = scene(1, (64, 64))[1]
    stored = {"image": {"bytes": mask_png(values), "path": None}, "classes": ["a"]}
    for changed, alike in ((0, True), (3, True), (9, False)):
        served = values.copy()
        served[0, :changed] = 2 - served[0, :changed] % 2
        answer = {"image": base64.b64encode(mask_png(served)).decode(), "classes": ["a"]}
        assert _alike(answer, stored, None) is alike


# --- the source ------------------------------------------------------------------------------------------


def test_a_folder_gives_each_image_its_mask_and_keeps_its_own_test_set(tmp_path: Path) -> None:
    table = read(masked_folder(tmp_path / "shapes", 4, test=1))
    assert sorted(table["origin"].to_pylist())[0] == "shapes/test/images/a03.png"
    assert table["given_test"].to_pylist() == [True, False, False, False]
    for row in table.to_pylist():
        number = int(row["origin"][-6:-4])
        assert row["image"]["bytes"] == scene(number)[0]
        assert np.array_equal(read_mask(row["mask"]["image"]["bytes"], ""), scene(number)[1])
        there = {CLASSES[value] for value in np.unique(scene(number)[1]) if value != 255}
        assert {name for name in row["mask"]["classes"] if name} == there


def test_other_folders_names_and_values(tmp_path: Path) -> None:
    folder = masked_folder(tmp_path / "crack", 1)
    (folder / "images").rename(folder / "photos")
    values = np.where(scene(0)[1] > 0, 255, 0).astype(np.uint8)
    (folder / "masks/a00.png").write_bytes(mask_file(values, palette=True))
    table = read(folder, images="photos", names=["sound", "crack"], values=[0, 255])
    classes = table["mask"][0].as_py()["classes"]
    assert classes[0] == "sound" and classes[255] == "crack" and set(classes[1:255]) == {None}


def _smaller(folder: Path) -> None:
    Image.new("L", (60, 48)).save(folder / "masks/a01.png")


def _rotated(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(scene(1)[0]))
    image.save(folder / "images/a01.png", exif=exif)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_smaller, r"masks/a01.png: the mask is 60 × 48 pixels and its image 64 × 48; make it"),
        (_rotated, r"masks/a01.png: the mask is 64 × 48 pixels and its image 48 × 64; make it"),
        (
            lambda f: (f / "classes.txt").write_text("background\n"),
            r"number \d, which has no name in .*classes.txt",
        ),
        (lambda f: (f / "classes.txt").write_text("a\na\n"), "classes.txt has 'a' twice"),
        (lambda f: (f / "classes.txt").unlink(), "source.names is empty, and shapes has no classes.txt"),
        (lambda f: (f / "masks/a01.png").unlink(), "images/a01.png: there is no mask of this name in masks/"),
        (
            lambda f: (f / "images/a01.png").unlink(),
            "masks/a01.png: there is no image of this name in images/",
        ),
        (lambda f: (f / "masks/a01.png").write_bytes(b"x"), "masks/a01.png: the mask cannot be read"),
        (lambda f: (f / "masks/a01.png").write_bytes(png(Image.new("RGB", (64, 48)))), "its mode is RGB"),
        (lambda f: (f / "images/a01.jpg").write_bytes(b"x"), "a01.jpg has the same name"),
        (lambda f: shutil.rmtree(f / "images"), "has no image in a folder images"),
    ],
)
def test_a_bad_folder_is_refused_in_a_line(tmp_path: Path, spoil: Callable[[Path], Any], said: str) -> None:
    folder = masked_folder(tmp_path / "shapes", 2)
    spoil(folder)
    with pytest.raises(UserError, match=said) as error:
        read(folder)
    assert "\n" not in str(error.value)


def test_pixels_without_a_name_may_be_ignored_by_their_number(tmp_path: Path) -> None:
    folder = masked_folder(tmp_path / "shapes", 1)
    with pytest.raises(UserError, match="number 255, which has no name"):
        read(folder, ignore=-1)
    with pytest.raises(UserError, match=r"as many numbers as source\.names has names"):
        read(folder, names=["a", "b"], values=[0])
    # The number that is to be ignored has a name: in classes.txt each line is that of a number.
    (folder / "masks/a00.png").write_bytes(mask_file(scene(0)[1] % 3))
    classes = read(folder, ignore=0)["mask"][0].as_py()["classes"]
    assert classes[0] is None and {*classes} - {None} <= {*CLASSES[1:]}


def test_rows_of_other_sources_are_left_out_with_a_reason() -> None:
    table = rows(0, 1, 2)
    wrong = masks(scene(0)[1], scene(1)[1][:40], scene(2)[1])["mask"].to_pylist()
    wrong[2] = {"image": {"bytes": b"x", "path": None}, "classes": ["a"]}
    broken = table.set_column(1, "mask", pa.array(wrong, table["mask"].type))
    assert task().faults(broken) == [None, "mask of another size than the image", "broken mask"]
    nothing = masks(scene(0)[1], classes=(None, None))
    assert task().faults(nothing.append_column("image", table["image"].slice(0, 1))) == [
        "mask without a class"
    ]


def test_digit_scenes_have_masks_where_a_task_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digit_scenes, "SCENES", 3)
    section = {"kind": "digit_scenes", "columns": {"image": "image", "mask": "mask"}}
    for row in next(digit_scenes.read(Source.parse(section, "source"))).to_pylist():
        values = read_mask(row["mask"]["image"]["bytes"], "")
        named = {name for name in row["mask"]["classes"] if name}
        assert named == {"background", *(box["label"] for box in row["boxes"])}
        for box in row["boxes"]:
            inside = values[int(box["top"]) : int(box["bottom"]), int(box["left"]) : int(box["right"])]
            assert set(np.unique(inside)) == {0, 1 + int(box["label"])}
