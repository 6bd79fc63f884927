"""`make export`: the folder's answers are the model's, in a process that has none of this project."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from retrainer.__main__ import main
from retrainer.batch_prediction.model import load_model
from retrainer.errors import UserError
from retrainer.export.command import Request, export
from retrainer.export.description import Exported, require_exportable
from retrainer.export.parity import parity_of, require_equal
from retrainer.export.readme import _answers
from retrainer.export.use_me import Images
from retrainer.formats.dataset import Dataset
from retrainer.predict import Predictor
from retrainer.settings import Task
from retrainer.tasks import make_task
from retrainer.tasks._decode_image import decode_image
from tests.conftest import first_in_ci
from tests.exports import ABSENT, answers_without, encoder_model, image_request
from tests.predicting import PLAIN
from tests.registered import png

TOLERANCE = 1e-5
MLP = {"family": "mlp", "hidden": [6]}

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="the extra 'export' is not installed"
)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Request, list[str]]:
    """An exported folder, and the lines that were printed."""
    request = image_request(tmp_path_factory.mktemp("digits"), MLP, 8, 1, rows=400)
    return request, export(request)


def probabilities(answers: list[dict[str, Any]]) -> np.ndarray:
    return np.array([list(answer["probabilities"].values()) for answer in answers])


def own(request: Request) -> tuple[pa.Table, pa.Table, Predictor]:
    """The test rows, the model's predictions of them, and the model."""
    assert request.model is not None
    test, predictor = Dataset(request.dataset).split("test"), Predictor.load(request.model)
    return test, predictor.predict(test), predictor


def test_use_me_answers_as_the_model_without_torch(digits: tuple[Request, list[str]]) -> None:
    request, _ = digits
    test, predictions, predictor = own(request)
    images = [image["bytes"] for image in test["image"].to_pylist()]
    answers = answers_without(ABSENT, request.out, images)
    assert len(answers) == 200
    assert [answer["label"] for answer in answers] == predictions["label"].to_pylist()
    assert np.abs(probabilities(answers) - predictor.probabilities(test)).max() < TOLERANCE


def test_parity_is_printed_and_in_the_folder(digits: tuple[Request, list[str]]) -> None:
    request, lines = digits
    about = json.loads((request.out / "export.json").read_text())
    parity = about["parity"]
    assert parity["rows"] == 200 and parity["same_decisions"] == 1.0
    assert parity["largest_difference"] < TOLERANCE
    assert parity["metric"]["name"] == "accuracy" and parity["metric"]["model"] == parity["metric"]["export"]
    readme = (request.out / "README.md").read_text()
    assert f"| accuracy | {parity['metric']['model']:.4f} | {parity['metric']['export']:.4f} |" in readme
    assert any("on 200 test rows" in line for line in lines) and "100.00% of these rows" in "\n".join(lines)
    assert sorted(about["files"]) == ["README.md", "model.onnx", "preprocessing.json", "use_me.py"]


def test_the_file_itself_says_how_images_are_read(digits: tuple[Request, list[str]]) -> None:
    import onnxruntime

    request, _ = digits
    session = onnxruntime.InferenceSession(request.out / "model.onnx")
    said = session.get_modelmeta().custom_metadata_map
    rule = json.loads((request.out / "preprocessing.json").read_text())
    assert json.loads(said["preprocessing"]) == rule and rule["size"] == [8, 8]
    logits, shares = session.run(None, {"pixels": np.zeros((5, 1, 8, 8), np.float32)})
    assert logits.shape == shares.shape == (5, 3)
    assert np.allclose(shares.sum(axis=1), 1)


@pytest.mark.slow
def test_integers_are_compared_too(digits: tuple[Request, list[str]], tmp_path: Path) -> None:
    request, _ = digits
    lines = export(replace(request, form="onnx-int8", out=tmp_path / "int8"))
    about = json.loads((tmp_path / "int8" / "export.json").read_text())
    assert 0 < about["parity"]["largest_difference"] < 0.1
    assert any(line.startswith("accuracy") and "of onnx-int8" in line for line in lines)
    assert not list((tmp_path / "int8").glob("float*"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"form": "onxx"}, "FORMAT=onxx: not a format.*did you mean|FORMAT=onxx: not a format"),
        ({"form": ""}, "FORMAT=: not a format"),
        ({"form": "timm"}, "of family mlp and reads images; choose FORMAT=onnx"),
        ({"form": "transformers"}, "of family mlp and reads images; choose FORMAT=onnx"),
        ({"dataset": Path("nowhere")}, "nowhere is not there, and without test rows no export is compared"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_a_line(
    digits: tuple[Request, list[str]], tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    request = replace(digits[0], out=tmp_path / "out", **changes)
    with pytest.raises(UserError, match=says) as refused:
        export(request)
    assert "\n" not in str(refused.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "kind",
    [
        "object_detection",
        "translation",
        "speech_recognition",
        "audio_classification",
        "sequence_tagging",
        "semantic_segmentation",
    ],
)
def test_other_tasks_are_refused_by_name(kind: str) -> None:
    task = make_task(Task.parse({"kind": kind}, "task"), ("a", "b"))
    network = SimpleNamespace(description=SimpleNamespace(preprocessing={"kind": task.input_spec()["kind"]}))
    model: Any = SimpleNamespace(predictor=SimpleNamespace(task=task, network=network))
    with pytest.raises(UserError, match=f"^FORMAT=onnx: a model of {kind} cannot be exported yet"):
        require_exportable(Exported(model, "any", kind), "onnx")


def test_masked_texts_are_refused() -> None:
    task = make_task(
        Task.parse({"kind": "text_classification", "mask_personal_data": True}, "task"), ("a", "b")
    )
    network = SimpleNamespace(description=SimpleNamespace(preprocessing={"kind": "tokens"}))
    model: Any = SimpleNamespace(predictor=SimpleNamespace(task=task, network=network))
    with pytest.raises(UserError, match="mask_personal_data is true, and only Retrainer masks texts"):
        require_exportable(Exported(model, "transformers", "text_classification"), "onnx")


def test_a_folder_that_is_not_an_export_is_never_replaced(
    digits: tuple[Request, list[str]], tmp_path: Path
) -> None:
    ours = digits[0].out
    for place, name in ((tmp_path / "mine", "notes.txt"), (tmp_path / "other", "export.json")):
        place.mkdir()
        (place / name).write_text("{}")
    shutil.copytree(ours, tmp_path / "added")
    (tmp_path / "added" / "notes.txt").write_text("mine")
    for name in ("mine", "other", "added"):
        before = sorted(file.name for file in (tmp_path / name).iterdir())
        with pytest.raises(
            UserError, match=rf"{name} is there, and make export did not write all that it holds"
        ):
            export(replace(digits[0], out=tmp_path / name))
        assert sorted(file.name for file in (tmp_path / name).iterdir()) == before


def test_labels_stay_in_their_line_of_the_readme() -> None:
    labels = ("a`\n# pip install bad", "<img src=x>")
    model = SimpleNamespace(predictor=SimpleNamespace(labels=labels))
    exported: Any = SimpleNamespace(is_number=False, has_several=False, model=model)
    shown = _answers(exported)
    assert shown == "It answers with one of 2 classes: `a # pip install bad`, `<img src=x>`."


def test_another_answer_is_refused(
    digits: tuple[Request, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader of images that turns them gives other answers."""
    request, _ = digits
    exported = Exported(load_model(PLAIN, model=request.model), "mlp", "image_classification")
    test = Dataset(request.dataset).split("test")
    require_equal(parity_of(exported, request.out, test), exported, "onnx")
    read = Images.__call__
    monkeypatch.setattr(Images, "__call__", lambda self, row: read(self, row)[:, ::-1])
    with pytest.raises(UserError, match="answers otherwise"):
        require_equal(parity_of(exported, request.out, test), exported, "onnx")


def test_the_command_without_a_recipe_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--format", "onnx"]) == 2
    assert capsys.readouterr().err.startswith("export: ")


def test_images_of_every_kind_are_read_as_in_training(tmp_path: Path) -> None:
    rule = {"size": [8, 12], "channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3, "formats": None}
    for name, data in odd_images(tmp_path).items():
        read = Images(rule)(data)
        assert (read == decode_image(data, (8, 12), 3, name)).all(), name
        grey = Images(rule | {"channels": 1})(data)
        assert (grey == decode_image(data, (8, 12), 1, name)).all(), name


def odd_images(folder: Path) -> dict[str, bytes]:
    draw = np.random.default_rng(1)
    pixels = draw.integers(0, 256, (90, 70, 4), np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    rgb = Image.fromarray(pixels[..., :3])
    rgb.save(folder / "turned.jpg", exif=turned)
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    rgb.quantize(16).save(folder / "palette.png")
    Image.fromarray(draw.integers(0, 65_536, (20, 30)).astype(np.uint16)).save(folder / "sixteen.png")
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return files | {"alpha": png(pixels), "exact": png(pixels[:8, :12, 0])}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "pooling"),
    first_in_ci((kind, pooling) for pooling in ("mean", "cls") for kind in ("bert", "roberta", "distilbert")),
)
def test_texts_open_in_transformers_with_the_same_logits(tmp_path: Path, kind: str, pooling: str) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    request = encoder_model(tmp_path, kind, pooling)
    for form in ("onnx", "transformers"):
        export(replace(request, form=form, out=tmp_path / form))
    test, predictions, predictor = own(request)
    texts = test["text"].to_pylist()
    assert (
        np.abs(
            probabilities(answers_without(ABSENT, tmp_path / "onnx", texts)) - predictor.probabilities(test)
        ).max()
        < TOLERANCE
    )
    plain = pooling == "cls" and kind != "distilbert"
    folder, arguments = tmp_path / "transformers", {} if plain else {"trust_remote_code": True}
    model = AutoModelForSequenceClassification.from_pretrained(folder, **arguments).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        given = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        logits = model(**given).logits / predictor.temperature
    assert np.abs(logits.softmax(1).numpy() - predictor.probabilities(test)).max() < TOLERANCE
    assert [model.config.id2label[int(n)] for n in logits.argmax(1)] == predictions["label"].to_pylist()
    answers = answers_without({"retrainer"}, folder, texts[:5])
    assert [answer["label"] for answer in answers] == predictions["label"].to_pylist()[:5]


@pytest.mark.slow
def test_pairs_and_numbers(tmp_path: Path) -> None:
    pairs = encoder_model(tmp_path / "pairs", "bert", "cls", pairs=True)
    numbers = encoder_model(tmp_path / "numbers", "bert", "mean", "text_regression")
    for request in (pairs, numbers):
        for form in ("onnx", "onnx-int8", "transformers"):
            export(replace(request, form=form, out=request.out / form))
    test, predictions, _ = own(pairs)
    rows = list(zip(test["text"].to_pylist(), test["text_pair"].to_pylist(), strict=True))
    answers = answers_without(ABSENT, pairs.out / "onnx", rows)
    assert [answer["label"] for answer in answers] == predictions["label"].to_pylist()
    test, predictions, _ = own(numbers)
    answers = answers_without(ABSENT, numbers.out / "onnx", test["text"].to_pylist())
    assert np.allclose([a["prediction"] for a in answers], predictions["prediction"].to_numpy(), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "name", "channels"),
    [
        ("timm", "resnet10t", 1),
        pytest.param("timm", "vit_tiny_patch16_224", 3, marks=pytest.mark.release),
        ("torchvision", "resnet18", 3),
    ],
)
def test_images_open_by_their_librarys_name(tmp_path: Path, family: str, name: str, channels: int) -> None:
    request = image_request(tmp_path, {"family": family, "name": name}, 32, channels, rows=20)
    for form in (family, "onnx", "onnx-int8"):
        export(replace(request, form=form, out=tmp_path / form))
    test, _, predictor = own(request)
    images = [image["bytes"] for image in test["image"].to_pylist()]
    for folder, absent in ((family, {"retrainer"}), ("onnx", ABSENT)):
        answers = answers_without(absent, tmp_path / folder, images)
        assert np.abs(probabilities(answers) - predictor.probabilities(test)).max() < TOLERANCE


@pytest.mark.slow
def test_what_torchvision_does_not_know_is_refused(tmp_path: Path) -> None:
    grey = image_request(tmp_path / "grey", {"family": "torchvision", "name": "resnet18"}, 32, 1, rows=20)
    with pytest.raises(UserError, match="reads grey images"):
        export(replace(grey, form="torchvision"))
    small = {"family": "torchvision", "name": "resnet18", "stem": "small"}
    with pytest.raises(UserError, match="small is no network of torchvision's"):
        export(replace(image_request(tmp_path / "small", small, 32, 3, rows=20), form="torchvision"))
