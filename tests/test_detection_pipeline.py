"""Object detection through every step: from a Pascal VOC folder to a report, and boxes as they are served."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks._runs import run_step
from components.evaluate import evaluate
from components.ingest import ingest
from components.preprocess import preprocess
from components.train import train
from retrainer.formats.dataset import Dataset
from retrainer.formats.names import CORNERS
from retrainer.predict import Predictor
from retrainer.registry.bundle import raw_frame, save_bundle
from retrainer.resolve import resolve
from tests.annotated_images import scene, voc_folder, voc_xml

pytestmark = pytest.mark.slow  # a real MLflow database, and every step

RECIPE = """
registry: {name: shapes}
source: {kind: pascal_voc, path: PATH}
split: {validation: 0.2}
task: {kind: object_detection, size: [48, 64], flip: true, shift: 4, head_width: 16, head_depth: 1}
backbone: {family: torchvision, name: shufflenet_v2_x0_5}
training: {strategy: scratch, epochs: 2, batch_size: 8, learning_rate: 2e-3}
compute: {dtype: float32, threads: 1}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("detection")
    folder = voc_folder(root / "voc", 24, test=6)
    _, boxes = scene(0)
    outside = boxes[0] | {"left": -5.0, "right": 900.0}
    empty = boxes[0] | {"right": boxes[0]["left"]}
    (folder / "Annotations/a00.xml").write_text(voc_xml("a00", [outside, empty]))
    (root / "recipes").mkdir()
    (root / "recipes/shapes.yaml").write_text(RECIPE.replace("PATH", str(folder)))
    (root / "params.yaml").write_text("task: {kind: object_detection}\n")
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


def test_the_dataset_keeps_boxes_and_cuts_those_outside(made: Path) -> None:
    data = Dataset(made / "dataset")
    assert data.labels == ("disc", "square")
    assert data.manifest["rows"]["test"] == 6 and sum(data.manifest["rows"].values()) == 24
    rows = [row for split in data.manifest["rows"] for row in data.split(split).to_pylist()]
    first = next(row for row in rows if row["origin"].endswith("a00.png"))
    assert [box["left"] for box in first["boxes"]] == [0.0] and first["boxes"][0]["right"] == 64.0
    found = {finding["name"]: finding for finding in data.manifest["checks"]}
    assert found["boxes"]["count"] == 1 and "a00.png" in found["boxes"]["examples"][0]


def test_the_same_settings_give_the_same_model(made: Path) -> None:
    first, second = (
        json.loads((made / place / "manifest.json").read_text()) for place in ("model", "again/model")
    )
    assert first["files"] == second["files"]


def test_the_report_has_both_metrics_each_class_and_drawn_boxes(made: Path) -> None:
    report = json.loads((made / "report/metrics.json").read_text())
    assert report["headline"] == "average_precision_50"
    assert set(report["metrics"]) == {"average_precision_50", "average_precision"}
    for figure in report["metrics"].values():
        assert figure["low"] <= figure["value"] <= figure["high"] and figure["n"] == 6
    assert set(report["baselines"]) == {"usual_boxes", "nearest_image"}
    assert [row["label"] for row in report["details"]["per_class"]] == ["disc", "square"]
    html = (made / "report/report.html").read_text()
    assert html.count("data:image/jpeg;base64,") == len(report["details"]["examples"]) > 0
    assert "Precision and recall" in html


def test_the_saved_model_gives_the_same_boxes_in_the_images_own_pixels(made: Path) -> None:
    test = Dataset(made / "dataset").split("test")
    predictor = Predictor.load(made / "model")
    whole = predictor.predict(test.select(["image"]))
    assert len(whole) == 6 and whole.column_names == ["boxes"]
    for boxes in whole["boxes"].to_pylist():
        assert all(0 <= box[corner] <= 64 for box in boxes for corner in CORNERS)
        assert all(box["label"] in ("disc", "square") for box in boxes)
    single = predictor.predict(test.select(["image"]).slice(2, 1))["boxes"][0].as_py()
    assert [box["label"] for box in single] == [box["label"] for box in whole["boxes"][2].as_py()]
    assert [box["score"] for box in single] == pytest.approx(
        [box["score"] for box in whole["boxes"][2].as_py()], abs=1e-5
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*")
@pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*")
def test_a_served_model_answers_with_boxes_as_json(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.pyfunc import load_model

    sample = Dataset(made / "dataset").split("test").select(["image"])
    save_bundle(made / "model", sample, tmp_path / "bundle", "m-0", "run")
    monkeypatch.setattr("sys.path", list(sys.path))
    served = load_model(str(tmp_path / "bundle"), suppress_warnings=True)
    answers = json.loads(served.predict(raw_frame(sample)).to_json(orient="records"))
    expected = Predictor.load(made / "model").predict(sample)["boxes"].to_pylist()
    assert [[box["label"] for box in row["boxes"]] for row in answers] == [
        [box["label"] for box in boxes] for boxes in expected
    ]
    assert set(answers[0]["boxes"][0]) == {"label", "score", *CORNERS}
