"""Semantic segmentation through every step: from a folder of images and masks to a report, masks as they are
predicted into files and served.
"""

from __future__ import annotations

import base64
import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks._runs import run_step
from components.evaluate import evaluate
from components.ingest import ingest
from components.preprocess import preprocess
from components.train import train
from retrainer.batch_prediction.command import Request, predict
from retrainer.batch_prediction.model import load_model
from retrainer.formats.dataset import Dataset
from retrainer.formats.masks import read_mask, share_differing
from retrainer.predict import Predictor
from retrainer.registry.bundle import raw_frame, save_bundle
from retrainer.resolve import resolve
from tests.masked_images import CLASSES, masked_folder, scene
from tests.predicting import PLAIN

pytestmark = pytest.mark.slow  # a real MLflow database, and every step

RECIPE = """
registry: {name: shapes}
source: {kind: image_masks, path: PATH}
split: {validation: 0.2}
task: {kind: semantic_segmentation, size: [48, 64], flip: true, shift: 4, head_width: 16}
backbone: {family: torchvision, name: shufflenet_v2_x0_5}
training: {strategy: scratch, epochs: 6, batch_size: 8, learning_rate: 5e-3, keep: last}
compute: {dtype: float32, threads: 1}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("segmentation")
    folder = masked_folder(root / "shapes", 30, test=8)
    (root / "recipes").mkdir()
    (root / "recipes/shapes.yaml").write_text(RECIPE.replace("PATH", str(folder)))
    (root / "params.yaml").write_text("task: {kind: semantic_segmentation}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        patch.chdir(root)
        settled = resolve("shapes", [], root, root)
        for step in (ingest, preprocess, train, evaluate):
            run_step(step, settled, root)
        (root / "again").mkdir()
        (root / "again/dataset").symlink_to(root / "dataset")
        run_step(train, settled, root / "again")
    return root


def test_the_dataset_keeps_masks_and_hugging_face_opens_them(made: Path) -> None:
    import datasets

    data = Dataset(made / "dataset")
    assert data.labels == CLASSES and data.manifest["types"] == {"mask": "mask"}
    assert data.manifest["rows"]["test"] == 8 and sum(data.manifest["rows"].values()) == 30
    assert data.manifest["classes"]["test"]["background"] == 8
    files = {"test": str(made / "dataset/test-00000.parquet")}
    opened = datasets.load_dataset("parquet", data_files=files, cache_dir=str(made / "cache"))["test"]
    for row, ours in zip(opened, data.split("test").to_pylist(), strict=True):
        assert np.array_equal(np.asarray(row["mask"]["image"]), read_mask(ours["mask"]["image"]["bytes"], ""))
        assert row["mask"]["classes"] == ours["mask"]["classes"]


def test_the_same_settings_give_the_same_model(made: Path) -> None:
    first, second = (
        json.loads((made / place / "manifest.json").read_text()) for place in ("model", "again/model")
    )
    assert first["files"] == second["files"]


def test_the_report_has_its_metrics_each_class_and_drawn_masks(made: Path) -> None:
    report = json.loads((made / "report/metrics.json").read_text())
    assert report["headline"] == "mean_iou"
    assert set(report["metrics"]) == {"mean_iou", "mean_dice", "pixel_accuracy"}
    for figure in report["metrics"].values():
        assert figure["low"] <= figure["value"] <= figure["high"] and figure["n"] == 8
    assert set(report["baselines"]) == {"majority", "pixel_regression"}
    majority = report["baselines"]["majority"]["metrics"]["mean_iou"]["value"]
    assert report["metrics"]["mean_iou"]["value"] > majority
    assert [row["label"] for row in report["details"]["per_class"]] == list(CLASSES)
    html = (made / "report/report.html").read_text()
    assert html.count("data:image/png;base64,") >= len(report["details"]["examples"]) > 0
    assert "What is taken for what" in html


def test_masks_are_predicted_into_files(made: Path, tmp_path: Path) -> None:
    model = load_model(PLAIN, model=made / "model")
    images = made / "shapes/test/images"
    (images / "broken.png").write_bytes(b"x")
    out = tmp_path / "new.csv"
    try:
        said = "\n".join(predict(Request(model, str(images), str(out))))
        predict(Request(model, str(images), str(out)))
    finally:
        (images / "broken.png").unlink()
    assert "new.csv.masks" in said and "rejected" in said
    with out.open(newline="") as stream:
        found = list(csv.DictReader(stream))
    assert len(found) == 8 == len(list((tmp_path / "new.csv.masks").iterdir()))
    for row in found:
        number = int(row["origin"][-6:-4])
        assert row["prediction"].endswith(f"-a{number:02d}.png")
        values = read_mask((tmp_path / row["prediction"]).read_bytes(), "")
        assert values.shape == scene(number)[1].shape
        shares = json.loads(row["prediction_shares"])
        assert shares["background"] == pytest.approx((values == 0).mean(), abs=1e-6)
    predict(Request(model, str(images), str(tmp_path / "new.jsonl")))
    predict(Request(model, str(images), str(tmp_path / "new.parquet")))
    assert (tmp_path / "new.jsonl.masks").is_dir() and not (tmp_path / "new.parquet.masks").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*")
@pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*")
def test_a_served_model_answers_with_masks_as_json(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.pyfunc import load_model as load_served

    sample = Dataset(made / "dataset").split("test").select(["image"])
    expected = Predictor.load(made / "model").predict(sample)
    asked = sample.append_column("mask", expected["mask"])
    save_bundle(made / "model", asked, tmp_path / "bundle", "m-0", "run")
    monkeypatch.setattr("sys.path", list(sys.path))
    served = load_served(str(tmp_path / "bundle"), suppress_warnings=True)
    answers = json.loads(served.predict(raw_frame(sample)).to_json(orient="records"))
    for answer, mask in zip(answers, expected["mask"].to_pylist(), strict=True):
        assert answer["mask"]["classes"] == list(CLASSES)
        data = base64.b64decode(answer["mask"]["image"])
        assert share_differing(data, mask["image"]["bytes"]) <= 1e-3


def test_the_page_to_try_it_shows_each_class_in_its_colour_and_no_name_as_markup() -> None:
    from streamlit.testing.v1 import AppTest

    def shown() -> None:
        import base64

        import numpy as np

        from retrainer.formats.masks import mask_png
        from retrainer.serving import page

        values = np.repeat(np.arange(2, dtype=np.uint8), 8).reshape(4, 4)
        image = base64.b64encode(mask_png(values)).decode()
        page._show({"mask": {"image": image, "classes": ["<b>a</b>", None, "c"]}})

    page = AppTest.from_function(shown, default_timeout=60).run()
    assert not page.exception
    (html,) = [one.proto.body for one in page.get("html")]
    assert "&lt;b&gt;a&lt;/b&gt;" in html and "<b>" not in html and html.count("<meter") == 2
