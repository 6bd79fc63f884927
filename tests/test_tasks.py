"""The two built-in tasks: what they read, what batches they cut, how they answer."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from retrainer import extend
from retrainer.errors import UserError
from retrainer.formats.columns import probability_matrix
from retrainer.formats.dataset import SCHEMA
from retrainer.settings import Task
from retrainer.tasks import image_classification, text_classification
from retrainer.tasks._pixels import Augmentation, augment

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(40))]
GREY = {"kind": "pixels", "size": [6, 6], "channels": 1, "mean": [0.0], "std": [1.0]}
COLOUR = {"kind": "pixels", "size": [6, 6], "channels": 3, "mean": [0.0] * 3, "std": [1.0] * 3}


@pytest.fixture(scope="module")
def assets() -> dict[str, bytes]:
    """A tokenizer with one token a word, and the special tokens of BERT."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=99)  # as published tokenizers have it: ours to undo
    return {"tokenizer.json": tokenizer.to_str().encode()}


def tokens(max_length: int = 16, pairs: bool = False) -> dict[str, Any]:
    names = {"kind": "tokens", "tokenizer": "tokenizer.json", "pad_id": 0}
    return {**names, "max_length": max_length, "pairs": pairs}


def text_task(multi_label: bool = False, labels: tuple[str, ...] = ("no", "yes"), **options: Any) -> Any:
    return text_classification.make(Task(multi_label=multi_label, **options), labels)


def image_task(**options: Any) -> Any:
    return image_classification.make(Task(kind="image_classification", **options), ("no", "yes"))


def texts(*rows: str | None, pair: list[str | None] | None = None) -> pa.Table:
    columns = {"text": pa.array(rows, pa.string())}
    return pa.table(columns | ({} if pair is None else {"text_pair": pa.array(pair, pa.string())}))


def labelled(*rows: list[str] | None) -> pa.Table:
    origins = [f"data.csv:{i + 2}" for i in range(len(rows))]
    return pa.table({"labels": pa.array(rows, SCHEMA["labels"]), "origin": origins})


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def images(*data: bytes | None) -> pa.Table:
    rows = [None if d is None else {"bytes": d, "path": None} for d in data]
    return pa.table({"image": pa.array(rows, SCHEMA["image"])})


def decoded(data: bytes, preprocessing: dict[str, Any]) -> np.ndarray:
    """uint8 [C, H, W] of one image."""
    return image_task().encode(images(data), preprocessing, {}).images[0].numpy()


# --- settings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", extend.builtin_names("tasks"))
def test_every_task_has_the_members_that_the_loop_calls(name: str) -> None:
    task = extend.load("tasks", name, "task.kind").make(Task(kind=name), ("a", "b"))
    assert type(task).__name__ == name.title().replace("_", "")
    assert task.input_spec()["kind"] in {"audio", "tokens", "pixels", "text_to_text", "causal_text"}
    members = ("learn", "head", "encode", "targets", "batch", "lengths", "loss", "figures", "predict")
    for member in (*members, "comparable"):
        assert callable(getattr(task, member))


@pytest.mark.parametrize("name", extend.builtin_names("tasks"))
def test_an_unknown_key_is_named(name: str) -> None:
    with pytest.raises(UserError, match=r"unknown setting task\.max_lenght"):
        extend.load("tasks", name, "task.kind").make(Task(kind=name, max_lenght=3), ("a", "b"))


@pytest.mark.parametrize(
    ("key", "value"),
    [("size", -1), ("channels", 2), ("scale", 1.0), ("rotate_degrees", 181), ("flip", "maybe")],
)
def test_an_impossible_value_is_named(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"task\.{key}"):
        image_task(**{key: value})


def test_tasks_are_read_without_heavy_imports() -> None:
    code = (
        "import json, sys\n"
        "from retrainer.tasks import image_classification, text_classification\n"
        "heavy = ('torch', 'numpy', 'pyarrow', 'PIL', 'tokenizers')\n"
        "print(json.dumps([m for m in heavy if m in sys.modules]))"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_a_task_names_the_input_that_a_model_family_must_accept() -> None:
    assert text_task(max_length=64).input_spec() == {"kind": "tokens", "max_length": 64}
    assert image_task().input_spec() == {"kind": "pixels", "size": None, "channels": None}
    assert image_task(size=28, channels=1).input_spec() == {"kind": "pixels", "size": [28, 28], "channels": 1}


# --- labels and answers --------------------------------------------------------------------------------


def test_targets_are_places_in_labels() -> None:
    assert text_task().targets(labelled(["yes"], ["no"], ["yes"])).tolist() == [1, 0, 1]


def test_targets_of_a_table_cut_from_a_larger_one() -> None:
    table = pa.concat_tables([labelled(["yes"], ["no"]), labelled(["no"], ["yes"])])
    assert text_task().targets(table.slice(1, 3)).tolist() == [0, 0, 1]


def test_multi_label_targets_may_be_empty() -> None:
    table = labelled(["yes", "no"], [], None, ["no"])
    assert text_task(multi_label=True).targets(table).tolist() == [[1, 1], [0, 0], [0, 0], [1, 0]]


def test_no_rows_have_no_targets() -> None:
    assert text_task().targets(labelled()).shape == (0,)
    assert text_task(multi_label=True).targets(labelled()).shape == (0, 2)


@pytest.mark.parametrize("labels", [[], None, ["yes", "no"]])
def test_a_single_label_row_needs_exactly_one(labels: list[str] | None) -> None:
    with pytest.raises(UserError, match=r"data\.csv:3: \d labels where one is needed; set task\.multi_label"):
        text_task().targets(labelled(["yes"], labels))


def test_an_unknown_label_is_named_with_its_row() -> None:
    with pytest.raises(UserError, match=r"data\.csv:4: label 'yess' is no class here; did you mean 'yes'\?"):
        text_task().targets(labelled(["yes"], ["no"], ["yess"]))


def test_loss_is_cross_entropy_per_row() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    losses = text_task().loss(logits, torch.tensor([0, 1]), 0.0)
    torch.testing.assert_close(losses, torch.tensor([2.0, 0.0]).neg().exp().log1p())


def test_smoothing_raises_the_loss_of_the_sure() -> None:
    sure, target = torch.tensor([[9.0, -9.0]]), torch.tensor([0])
    assert text_task().loss(sure, target, 0.1) > text_task().loss(sure, target, 0.0) + 0.5
    both = text_task(multi_label=True)
    answer = torch.tensor([[1.0, 0.0]])
    assert both.loss(sure, answer, 0.1) > both.loss(sure, answer, 0.0) + 0.4


def test_single_label_answers() -> None:
    task = text_task()
    probabilities = task.probabilities(torch.tensor([[0.0, 0.0], [1.0, 4.0]], dtype=torch.bfloat16))
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    decided = task.decide(probabilities)
    assert decided.tolist() == [0, 1]
    logits = torch.tensor([[2.0, 0.0], [1.0, 4.0]])
    assert task.figures(logits, torch.tensor([0, 0]))["accuracy"].tolist() == [1, 0]


def test_a_prediction_is_a_class_and_the_probability_of_each() -> None:
    logits = torch.tensor([[0.0, 0.0], [2.0, 6.0]])
    found = text_task().predict(lambda batch: batch["logits"], {"logits": logits}, temperature=2.0)
    assert found["label"].to_pylist() == ["no", "yes"]
    expected = (logits / 2).softmax(dim=1)
    assert found.schema.field("probabilities").type == pa.struct(
        [("no", pa.float32()), ("yes", pa.float32())]
    )
    np.testing.assert_array_equal(probability_matrix(found), expected.numpy())


def test_a_multi_label_prediction_is_a_set_of_classes() -> None:
    logits = torch.tensor([[3.0, -3.0], [3.0, 3.0], [-3.0, -3.0]])
    task = text_task(multi_label=True)
    found = task.predict(lambda batch: batch["logits"], {"logits": logits}, temperature=1.0)
    assert found["labels"].to_pylist() == [["no"], ["no", "yes"], []]
    assert found.schema.field("labels").type == pa.list_(pa.string())
    np.testing.assert_array_equal(probability_matrix(found), logits.sigmoid().numpy())


def test_predictions_of_models_with_other_classes_are_brought_to_one_set() -> None:
    first = text_task(labels=("a", "b")).predictions(np.array([[0.25, 0.75]], np.float32))
    second = text_task(labels=("b", "c")).predictions(np.array([[0.5, 0.5]], np.float32))
    brought = text_task(labels=("a", "b")).comparable(first, second)
    assert [table["probabilities"].to_pylist() for table in brought] == [
        [{"a": 0.25, "b": 0.75, "c": 0.0}],
        [{"a": 0.0, "b": 0.5, "c": 0.5}],
    ]
    assert brought[0].schema == brought[1].schema
    assert [table["label"].to_pylist() for table in brought] == [["b"], ["b"]]


def test_a_multi_label_row_is_right_when_its_exact_set_is() -> None:
    task = text_task(multi_label=True)
    logits = torch.tensor([[3.0, -3.0], [3.0, 3.0], [-3.0, -3.0], [0.0, -1.0]])
    decided = task.decide(task.probabilities(logits))
    assert decided.tolist() == [[True, False], [True, True], [False, False], [False, False]]
    truth = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    assert task.figures(logits, truth)["accuracy"].tolist() == [1, 0, 1, 0]


# --- texts ---------------------------------------------------------------------------------------------


def test_a_batch_of_texts_is_padded_to_its_longest(assets: dict[str, bytes]) -> None:
    task = text_task()
    rows = task.encode(texts("w0", "w1 w2 w3 w4 w5 w6 w7", "", None), tokens(), assets)
    assert task.lengths(rows).tolist() == [3, 9, 2, 2]
    batch = task.batch(rows, np.array([1, 0]), None)
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch["input_ids"].shape == (2, 9) and batch["input_ids"].dtype == torch.int64
    assert batch["input_ids"][1].tolist() == [2, 4, 3] + [0] * 6
    assert batch["attention_mask"].sum(dim=1).tolist() == [9, 3]
    assert task.batch(rows, np.array([0]), None)["input_ids"].shape == (1, 3)


@pytest.mark.parametrize(("max_length", "width"), [(16, 16), (12, 12), (9, 9)])
def test_for_a_gpu_lengths_are_multiples_of_8(max_length: int, width: int, assets: dict[str, bytes]) -> None:
    rows = text_task().encode(texts("w0 " * 7), tokens(max_length), assets)
    assert rows.to(torch.device("cuda"))._padded(9) == width


def test_texts_are_cut_and_never_padded_beyond_the_limit(assets: dict[str, bytes]) -> None:
    task = text_task()
    rows = task.encode(texts("w0 " * 50, "w1"), tokens(max_length=12), assets)
    batch = task.batch(rows, np.array([0, 1]), None)
    assert batch["input_ids"].shape == (2, 12)
    assert batch["input_ids"][0, -1] == 3


def test_a_pair_is_one_sequence_with_types(assets: dict[str, bytes]) -> None:
    task = text_task()
    table = texts("w0", "w1", pair=["w2 w3", None])
    batch = task.batch(task.encode(table, tokens(pairs=True), assets), np.arange(2), None)
    assert batch["input_ids"].tolist() == [[2, 4, 3, 6, 7, 3], [2, 5, 3, 0, 0, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 1], [0] * 6]
    untyped = task.batch(task.encode(table, tokens(), assets), np.arange(2), None)
    assert set(untyped) == {"input_ids", "attention_mask"}
    torch.testing.assert_close(untyped["input_ids"], batch["input_ids"])


def test_a_row_is_tokenised_alike_in_any_company(assets: dict[str, bytes]) -> None:
    task = text_task()
    table = texts("w0", "w1", pair=["w2 w3", None])
    alone = task.encode(table.slice(1, 1), tokens(), assets)
    together = task.encode(table, tokens(), assets)
    torch.testing.assert_close(
        task.batch(alone, np.array([0]), None)["input_ids"],
        task.batch(together, np.array([1]), None)["input_ids"],
    )


def test_a_batch_of_no_texts_is_empty(assets: dict[str, bytes]) -> None:
    rows = text_task().encode(texts(), tokens(), assets)
    assert len(rows) == 0
    assert text_task().lengths(rows).shape == (0,)


# --- images --------------------------------------------------------------------------------------------


def gradient(mode: str, size: tuple[int, int] = (6, 6)) -> Image.Image:
    ramp = np.linspace(0, 255, size[0] * size[1]).reshape(size[1], size[0]).astype(np.uint8)
    return Image.fromarray(ramp).convert(mode)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP"])
@pytest.mark.parametrize("preprocessing", [GREY, COLOUR], ids=["grey", "colour"])
def test_an_image_of_the_right_size_keeps_its_pixels(kind: str, preprocessing: dict[str, Any]) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = decoded(encoded(gradient("L"), kind, **options), preprocessing)
    assert pixels.shape == (preprocessing["channels"], 6, 6)
    for channel in pixels:
        np.testing.assert_array_equal(channel, np.asarray(gradient("L")))


def test_colour_becomes_grey_when_grey_is_wanted() -> None:
    pixels = decoded(encoded(Image.new("RGB", (6, 6), (255, 0, 0))), GREY)
    assert pixels.shape == (1, 6, 6) and set(pixels.ravel()) == {76}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(mode: str) -> None:
    image = Image.new("RGBA", (6, 6), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 3, 6))
    pixels = decoded(encoded(image.convert(mode)), COLOUR)
    assert pixels[:, :, :3].max() == 0 and pixels[:, :, 3:].min() == 255


def test_cmyk_and_16_bit_grey() -> None:
    cmyk = decoded(encoded(Image.new("CMYK", (6, 6), (0, 0, 0, 255)), "JPEG"), COLOUR)
    assert cmyk.max() < 8
    deep = Image.fromarray(np.full((6, 6), 128 * 257, dtype=np.uint16))
    assert set(decoded(encoded(deep), GREY).ravel()) == {128}


def test_a_camera_held_sideways_is_turned_upright() -> None:
    upright = Image.new("L", (6, 6), 0)
    upright.paste(255, (0, 0, 6, 2))
    note = Image.Exif()
    note[0x0112] = 6  # "turn me clockwise by 90 degrees"
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    np.testing.assert_array_equal(decoded(encoded(stored, exif=note), GREY)[0], np.asarray(upright))


def test_another_size_covers_and_keeps_the_centre() -> None:
    wide = Image.new("L", (300, 100), 0)
    wide.paste(200, (60, 0, 240, 100))
    assert decoded(encoded(wide), GREY).min() > 195
    assert decoded(encoded(wide, "JPEG", quality=95), GREY).min() > 195


def test_many_large_images_decode_like_one() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 200, 200, 3), dtype=np.uint8)
    data = [encoded(Image.fromarray(n)) for n in noise]
    together = image_task().encode(images(*data), COLOUR, {}).images.numpy()
    np.testing.assert_array_equal(together, [decoded(d, COLOUR) for d in data])


@pytest.mark.parametrize("data", [b"not an image", b"", None, encoded(gradient("L", (90, 90)))[:150]])
def test_a_broken_image_is_named(data: bytes | None) -> None:
    table = images(encoded(gradient("L")), data).append_column("origin", pa.array(["a.zip:1", "a.zip:2"]))
    with pytest.raises(UserError, match=r"^a\.zip:2: the image cannot be decoded: "):
        image_task().encode(table, GREY, {})


def test_pixels_are_normalised_and_whole_without_a_generator() -> None:
    task = image_task(shift=3, flip=True)
    rows = task.encode(images(encoded(gradient("L"))), GREY | {"mean": [0.5], "std": [0.25]}, {})
    batch = task.batch(rows, np.array([0, 0]), None)["pixels"]
    assert batch.shape == (2, 1, 6, 6) and batch.dtype == torch.float32
    wanted = (np.asarray(gradient("L")) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(batch[1, 0].numpy(), wanted, rtol=1e-5, atol=1e-6)
    assert task.lengths(rows) is None and len(rows) == 1


# --- augmentation --------------------------------------------------------------------------------------


def spot(at: tuple[int, int] = (10, 8), size: tuple[int, int] = (21, 17)) -> torch.Tensor:
    """One bright pixel [1, 1, H, W] on black."""
    pixels = torch.zeros(1, 1, *size)
    pixels[0, 0, at[0], at[1]] = 255.0
    return pixels


def drawn(augmentation: Augmentation, pixels: torch.Tensor, count: int = 400, seed: int = 0) -> torch.Tensor:
    views = pixels.expand(count, *pixels.shape[1:]).clone()
    return augment(views, augmentation, torch.Generator().manual_seed(seed))


def test_every_shift_is_drawn_and_moves_whole_pixels() -> None:
    views = drawn(Augmentation(shift=2), spot())
    places = {tuple(view[0].nonzero()[0].tolist()) for view in views}
    assert places == {(10 + down, 8 + right) for down in range(-2, 3) for right in range(-2, 3)}
    assert set(views.unique().tolist()) == {0.0, 255.0}


def test_what_moves_in_repeats_the_border() -> None:
    white = torch.full((1, 3, 9, 9), 255.0)
    assert drawn(Augmentation(shift=3, rotate_degrees=30, scale=0.3), white).min() > 254
    assert drawn(Augmentation(shift=3), white).min() == 255


def test_a_flip_mirrors_half_of_the_images() -> None:
    views = drawn(Augmentation(flip=True), spot((3, 0)))
    left = (views[:, 0, 3, 0] == 255).sum().item()
    right = (views[:, 0, 3, -1] == 255).sum().item()
    assert left + right == 400 and 150 < left < 250


def test_bending_by_nothing_but_a_shift_is_the_shift() -> None:
    tiny = 1e-6
    exact = drawn(Augmentation(shift=2), spot(), count=20)
    bent = drawn(Augmentation(shift=2, rotate_degrees=tiny), spot(), count=20)
    torch.testing.assert_close(bent, exact, atol=0.01, rtol=0)


def test_a_turn_keeps_distances_on_images_that_are_not_square() -> None:
    views = drawn(Augmentation(rotate_degrees=180), spot((10, 14)))[:, 0]
    ys, xs = torch.meshgrid(torch.arange(21) - 10.0, torch.arange(17) - 8.0, indexing="ij")
    radius = (views * (ys.square() + xs.square()).sqrt()).sum(dim=(1, 2)) / views.sum(dim=(1, 2))
    assert (radius - 6).abs().max() < 0.3
    assert (views * ys).sum(dim=(1, 2)).std() > 500


def test_scale_changes_size_in_both_directions() -> None:
    square = torch.zeros(1, 1, 21, 21)
    square[:, :, 6:15, 6:15] = 1.0
    areas = drawn(Augmentation(scale=0.2), square).sum(dim=(1, 2, 3)) / 81
    assert 0.58 < areas.min() < 0.7 and 1.34 < areas.max() < 1.5


def test_the_same_seed_draws_the_same_views() -> None:
    every = Augmentation(shift=2, rotate_degrees=10, scale=0.1, flip=True)
    torch.rand(3)
    first, again = drawn(every, spot(), seed=1), drawn(every, spot(), seed=1)
    assert torch.equal(first, again)
    assert not torch.equal(first, drawn(every, spot(), seed=2))
