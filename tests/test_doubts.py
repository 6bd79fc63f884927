"""What evaluate doubts: planted label flips, and test rows that are nearly training rows."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from retrainer.errors import UserError
from retrainer.evaluation.evaluate import Request, evaluate_model
from retrainer.formats.dataset import IMAGE, write_dataset
from retrainer.formats.report import CARD, HTML, read_report
from retrainer.predict import Predictor
from retrainer.settings import Backbone, Checks, Gate, Task, Training
from retrainer.tasks import _embedded as module
from retrainer.tasks._neighbours import LEAST_COSINE, nearest
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import train_model
from tests.html_page import Page
from tests.stripes import COMPUTE, KINDS, QUICK, SIDE, table

FLIPPED = [4, 11, 30]
COPIED = {7: 12, 20: 44}  # test row → training row


def shifted(image: dict[str, Any]) -> dict[str, Any]:
    """The same picture a shade brighter: not one equal byte."""
    with Image.open(io.BytesIO(image["bytes"])) as before:
        brighter = before.point(lambda value: min(255, value + 3))
    buffer = io.BytesIO()
    brighter.save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset whose test rows have FLIPPED labels and COPIED images, and a model trained on it."""
    folder = tmp_path_factory.mktemp("planted")
    train, test = table(KINDS, 120, 0), table(KINDS, 60, 2)
    images, labels = test["image"].to_pylist(), test["labels"].to_pylist()
    for row in FLIPPED:
        labels[row] = [KINDS[(row + 1) % 3]]
    for row, source in COPIED.items():
        images[row], labels[row] = shifted(train["image"][source].as_py()), train["labels"][source].as_py()
    test = test.set_column(0, "image", pa.array(images, IMAGE))
    test = test.set_column(1, "labels", pa.array(labels, pa.list_(pa.string())))
    write_dataset(folder / "dataset", {"train": train, "validation": table(KINDS, 15, 1), "test": test})
    return folder / "dataset", trained(folder, several=False)


def trained(folder: Path, several: bool) -> Path:
    task = Task(kind="image_classification", multi_label=several, size=SIDE, channels=1)
    backbone = Backbone(family="mlp", hidden=[32])
    training = Training(strategy="scratch", epochs=8, learning_rate=1e-2, batch_size=16)
    model = folder / "model"
    train_model(Inputs(folder / "dataset", Settings(task, backbone, training, COMPUTE)), model)
    return model


def found(report: dict[str, Any], name: str) -> dict[str, Any]:
    (check,) = [check for check in report["data"]["checks"] if check["name"] == name]
    return dict(check)


def judged(pair: tuple[Path, Path], out: Path, **levels: Any) -> dict[str, Any]:
    checks = Checks.parse(levels, "checks")
    return evaluate_model(Request(*pair, out, QUICK, Gate(), COMPUTE, checks=checks))


def test_planted_flips_and_leaks_are_told(planted: tuple[Path, Path], tmp_path: Path) -> None:
    judged(planted, tmp_path / "report")
    report = read_report(tmp_path / "report")
    labels, leaks = found(report, "label_errors"), found(report, "embedding_duplicates")
    assert labels["count"] == 3 and labels["share"] == 0.05
    assert set(labels["examples"]) == {f"row-2-{row}" for row in FLIPPED}
    assert leaks["count"] == 2 and "120 training rows" in leaks["note"]
    page = Page((tmp_path / "report" / HTML).read_text())
    for words in ("Rows to look at again", "is the label given", "Test rows like training rows", "cosine"):
        assert words in page.text, words
    for row in FLIPPED:
        shown = re.findall(rf"row-2-{row}\b", page.text)
        assert len(shown) == 1, "a mistake whose label is doubted is shown once"
    assert "is the label given, which is doubted" in page.text and "of them stand above" in page.text
    for source in COPIED.values():
        assert f"file.csv:row {source}" in page.text
    card = (tmp_path / "report" / CARD).read_text()
    assert "label\\_errors | 3" in card and "embedding\\_duplicates | 2" in card


def test_the_level_error_stops_with_the_number_and_the_rows(
    planted: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match=r"checks\.label_errors: 3 of 60 .*\(row-2-\d+, row-2-\d+, row-2-\d+\)"
    ) as stopped:
        judged(planted, tmp_path / "report", label_errors="error")
    assert "\n" not in str(stopped.value) and not (tmp_path / "report").exists()


def test_the_level_off_looks_for_nothing(
    planted: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Predictor, "features", None)
    report = judged(planted, tmp_path / "report", label_errors="off", near_duplicates="off")
    assert [check["level"] for check in report["data"]["checks"]] == ["off"]
    assert "Rows to look at again" not in (tmp_path / "report" / HTML).read_text()


def test_rows_of_several_labels_are_left_alone_and_it_is_said(tmp_path: Path) -> None:
    splits = {name: table(KINDS, 60, seed, several=True) for seed, name in enumerate(("train", "test"))}
    write_dataset(tmp_path / "dataset", splits)
    report = judged((tmp_path / "dataset", trained(tmp_path, True)), tmp_path / "out", label_errors="error")
    assert "not looked at" in found(report, "label_errors")["note"]
    assert "several labels are not looked at" in Page((tmp_path / "out" / HTML).read_text()).text


def test_of_many_training_rows_a_sample_is_looked_at_and_it_is_said(
    planted: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_TRAINING_ROWS", 50)
    assert (
        "50 of 120 training rows" in found(judged(planted, tmp_path / "out"), "embedding_duplicates")["note"]
    )


def test_features_are_those_that_the_head_reads(planted: tuple[Path, Path]) -> None:
    import torch

    predictor = Predictor.load(planted[1])
    test = table(KINDS, 70, 5)
    features = predictor.features(test)
    assert features.shape == (70, 32) and features.dtype == np.float32
    with torch.inference_mode():
        logits = predictor.network.head(torch.from_numpy(features)) / predictor.temperature
    told = predictor.task.probabilities(logits)
    np.testing.assert_allclose(told, predictor.probabilities(test), atol=1e-6)


@pytest.mark.parametrize(("rows", "others"), [(3, 5), (700, 5000)])
def test_the_nearest_is_what_comparing_all_with_all_finds(rows: int, others: int) -> None:
    draw = np.random.default_rng(0)
    train = (draw.normal(size=(others, 8)) + 5).astype(np.float32)
    test = (draw.normal(size=(rows, 8)) + 5).astype(np.float32)
    test[1] = train[4] + np.float32(0.001)
    train[3] = train.mean(axis=0)
    near = nearest(test, train)
    apart = [one - train.mean(axis=0, dtype=np.float64) for one in (test, train)]
    unit = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in apart]
    cosines = unit[0] @ unit[1].T
    assert near.test[0] == 1 and near.train[0] == 4 and near.cosine[0] > 0.999
    ranked = np.sort(cosines, axis=1)[:, ::-1]
    close = (ranked[:, 0] >= LEAST_COSINE) & (1 - ranked[:, 0] < (1 - ranked[:, 4]) / 10)
    assert set(near.test) == set(np.flatnonzero(close))
    assert near.train.tolist() == cosines.argmax(axis=1)[near.test].tolist()
    assert (np.diff(near.cosine) <= 0).all()


def test_rows_of_a_class_that_a_network_sees_alike_are_no_duplicates() -> None:
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(3, 16))
    drawn = [
        (centres[np.arange(n) % 3] + draw.normal(0, 0.02, (n, 16))).astype(np.float32) for n in (90, 300)
    ]
    cosines = np.corrcoef(drawn[0] - drawn[1].mean(axis=0), drawn[1] - drawn[1].mean(axis=0))
    assert cosines[:90, 90:].max(axis=1).min() > 0.99
    assert len(nearest(*drawn).test) == 0


def test_a_row_without_features_is_like_no_other() -> None:
    assert len(nearest(np.zeros((2, 3), np.float32), np.zeros((4, 3), np.float32)).test) == 0
