"""What the report shows of attributions and of the training rows nearest to a mistake."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from retrainer.evaluation import words
from retrainer.evaluation.evaluate import Request, evaluate_model
from retrainer.formats.dataset import write_dataset
from retrainer.formats.report import CARD, HTML, METRICS
from retrainer.pages.attributions import bars, legend, overlay, painted
from retrainer.pages.style import CSS
from retrainer.predict import Predictor
from retrainer.registry.judgement_tags import judgement_tags
from retrainer.settings import Backbone, Checks, Evaluation, Gate, Task, Training
from retrainer.tasks import _explained, text_classification
from retrainer.tasks._nearest_rows import verdict
from retrainer.tasks._protocol import Judged
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import train_model
from tests.html_page import Page
from tests.small_datasets import png, reviews_table
from tests.stripes import COMPUTE, made, table

EXPLAINED = Evaluation(resamples=100, explain=4)
EVIL = "<script>alert(1)</script>"
PAINTED = 'alt="the same, coloured'


def judged(pair: tuple[Path, Path], out: Path, evaluation: Evaluation = EXPLAINED) -> dict[str, Any]:
    evaluate_model(Request(*pair, out, evaluation, Gate(), COMPUTE))
    report: dict[str, Any] = json.loads((out / METRICS).read_text())
    return report


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return made(tmp_path_factory.mktemp("stripes"), epochs=3)


def test_images_of_mistakes_and_of_a_sample_are_explained(stripes: tuple[Path, Path], tmp_path: Path) -> None:
    report = judged(stripes, tmp_path / "report")
    found = report["details"]["attributions"]
    mistakes = report["rows"] - round(report["metrics"]["accuracy"]["value"] * report["rows"])
    assert [one["sample"] for one in found["rows"]] == [True] * 4 + [False] * min(12, mistakes)
    assert (
        found["randomised"]["rows"] == min(8, len(found["rows"]))
        and found["completeness_error"] < 0.1
        and not found["warning"]
    )
    content = (tmp_path / "report" / HTML).read_text()
    assert content.count(PAINTED) == len(found["rows"])
    page = Page(content)
    assert "What right answers rest on" in page.text and found["note"] in page.text
    figure = max(found["randomised"]["head"], found["randomised"]["whole"])
    assert judgement_tags(report)["details.attribution_rank_correlation"] == f"{figure:.6g}"
    card = (tmp_path / "report" / CARD).read_text().replace("\\", "")
    assert "rank correlation" in card and found["note"] in card


def test_the_same_report_comes_out_twice(stripes: tuple[Path, Path], tmp_path: Path) -> None:
    judged(stripes, tmp_path / "one")
    judged(stripes, tmp_path / "other")
    for name in (HTML, METRICS, CARD):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_zero_rows_are_no_attributions(stripes: tuple[Path, Path], tmp_path: Path) -> None:
    report = judged(stripes, tmp_path / "report", Evaluation(resamples=100, explain=0))
    assert report["details"]["attributions"]["rows"] == [] and report["details"]["nearest"] == []
    assert "evaluation.explain is 0" in Page((tmp_path / "report" / HTML).read_text()).text
    assert not [tag for tag in judgement_tags(report) if "attribution" in tag]


def test_a_large_network_on_a_cpu_is_explained_on_fewer_rows(
    stripes: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_explained, "_MOST_OPERATIONS", 1.0)
    found = judged(stripes, tmp_path / "report")["details"]["attributions"]
    assert len(found["rows"]) == 2 and "Only 2 of " in found["note"]
    assert (tmp_path / "report" / HTML).read_text().count(PAINTED) == 2


def test_a_head_that_was_never_trained_is_told(stripes: tuple[Path, Path], tmp_path: Path) -> None:
    dataset, _ = stripes
    task = Task(kind="image_classification", size=8, channels=1)
    training = Training(strategy="scratch", epochs=1, learning_rate=1e-12, batch_size=16, seed=1)
    train_model(
        Inputs(dataset, Settings(task, Backbone(family="mlp", hidden=[16]), training, COMPUTE)),
        tmp_path / "m",
    )
    report = judged((dataset, tmp_path / "m"), tmp_path / "report")
    assert "explain guesses" in report["details"]["attributions"]["warning"]
    assert any("must not be believed" in note for note in words.notes(report))
    page = Page((tmp_path / "report" / HTML).read_text())
    assert page.text.count("must not be believed") >= 2  # with the verdict, and beside the pictures


def test_attributions_that_ignore_the_weights_are_not_to_be_believed(
    stripes: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explain = _explained.Explainer.explain
    kept: list[pa.Table] = []

    def same_for_all_weights(self: Any, rows: pa.Table, contrasts: np.ndarray) -> pa.Table:
        kept.append(kept[0] if kept else explain(self, rows, contrasts))
        return kept[-1].slice(0, len(rows))

    monkeypatch.setattr(_explained.Explainer, "explain", same_for_all_weights)
    report = judged(stripes, tmp_path / "report")
    found = report["details"]["attributions"]
    assert found["randomised"]["head"] == found["randomised"]["whole"] == 1.0
    assert found["warning"].startswith("The attributions must not be believed: they stay much the same")
    assert found["warning"] in Page((tmp_path / "report" / HTML).read_text()).text


def test_rows_of_several_labels(tmp_path: Path) -> None:
    found = judged(made(tmp_path, several=True, epochs=2), tmp_path / "report")["details"]["attributions"]
    assert found["rows"] and all(one["against"] is None for one in found["rows"])


def test_a_task_without_attributions_says_so() -> None:
    assert words.attributions({"details": {}}) == "No attributions: this task has none."


def test_words_are_painted_by_sign_and_size_and_nothing_is_live() -> None:
    text = f"a {EVIL} good & bad"
    at = text.index("good")
    spans = [[2, 2 + len(EVIL), 2.0], [at, at + 4, -1.0], [at + 7, at + 10, 0.1]]
    page = painted(text, spans, 2.0, 400)
    assert "<script" not in page and page.count("<mark") == 2
    assert '<mark class="for4" title="+2">&lt;script&gt;' in page and '<mark class="not2"' in page
    shown = Page(page)
    assert "".join(shown.said) == text


def test_a_long_text_is_painted_as_far_as_it_is_shown() -> None:
    text = "word " * 100
    spans = [[n * 5, n * 5 + 4, 1.0] for n in range(100)]
    shown = Page(painted(text, spans, 1.0, 52))
    assert "".join(shown.said) == text[:51] + "…" and shown.tags.count("mark") == 10


@pytest.mark.parametrize("theme", [0, 1])
def test_painted_words_are_legible(theme: int) -> None:
    """A contrast of 4.5 : 1, as WCAG 2.2 wants it (success criterion 1.4.3)."""
    block = CSS.split("prefers-color-scheme")[theme]
    colours = dict(re.findall(r"--([a-z]+\d?): (#[0-9a-f]{6})", block))
    ink = _luminance(colours["ink"])
    for name in (f"{side}{shade}" for side in ("for", "not") for shade in range(1, 5)):
        light, dark = sorted((ink, _luminance(colours[name])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, name


def _luminance(colour: str) -> float:
    shares = np.array([int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)])
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize(("side", "shown", "small"), [(16, 16, True), (200, 144, False)])
def test_regions_lie_over_the_image_that_the_model_sees(side: int, shown: int, small: bool) -> None:
    encoded = png(np.full((side, side), 128, np.uint8))
    half = side // 2
    grid = {"rows": [0, half, side], "columns": [0, half, side], "values": [1.0, 0.0, 0.0, -1.0]}
    source, enlarged = overlay(encoded, "x", (side, side), grid)
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == (shown, shown, 3) and enlarged is small
    quarter = shown // 4
    blue, plain, orange = pixels[quarter, quarter], pixels[quarter, -quarter], pixels[-quarter, -quarter]
    assert blue[2] > blue[0] + 80 and orange[0] > orange[2] + 80 and np.ptp(plain) < 8


def test_a_sound_has_bars_up_and_down() -> None:
    svg = bars([[0.0, 0.1, 2.0], [0.1, 0.2, -1.0]])
    assert svg.count("<rect") == 2 and 'class="for" x="0.0" y="0.0"' in svg and 'class="not"' in svg
    assert "0.10 to 0.20 s: -1" in svg and Page(svg).tags
    assert EVIL not in legend(EVIL, "")


@pytest.mark.parametrize(
    ("truth", "answer", "said"),
    [
        (0, 3, "All 3 most similar training rows have the label that the model answered"),
        (3, 0, "the true label, against the model's answer"),
        (1, 2, "2 have the answer's label, 1 the true one"),
    ],
)
def test_whom_the_nearest_training_rows_support(truth: int, answer: int, said: str) -> None:
    assert said in verdict({"rows": [[0, 0.9], [1, 0.8], [2, 0.7]], "truth": truth, "answer": answer})


def test_the_training_rows_nearest_to_a_wrong_label_have_the_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = table(("across", "down"), 80, 0), table(("across", "down"), 40, 2)
    labels = test["labels"].to_pylist()
    labels[5], labels[8] = ["across"], [EVIL]  # of a class that the model does not know
    test = test.set_column(1, "labels", pa.array(labels, pa.list_(pa.string())))
    write_dataset(
        tmp_path / "d", {"train": train, "validation": table(("across", "down"), 12, 1), "test": test}
    )
    task = Task(kind="image_classification", size=8, channels=1)
    training = Training(strategy="scratch", epochs=8, learning_rate=1e-2, batch_size=16)
    train_model(
        Inputs(tmp_path / "d", Settings(task, Backbone(family="mlp", hidden=[16]), training, COMPUTE)),
        tmp_path / "m",
    )
    plain, asked = Predictor.features, list[int]()

    def features(self: Predictor, rows: pa.Table) -> np.ndarray:
        asked.append(len(rows))
        return plain(self, rows)

    with monkeypatch.context() as watched:
        watched.setattr(Predictor, "features", features)
        report = judged((tmp_path / "d", tmp_path / "m"), tmp_path / "report")
    assert asked == [len(train)]  # those of the test rows come from the pass that predicts them
    near = {one["row"]: one for one in report["details"]["nearest"]}
    assert near[5]["answer"] == 3 and near[5]["truth"] == 0
    features = [Predictor.load(tmp_path / "m").features(rows) for rows in (test, train)]
    apart = [one - features[1].mean(axis=0) for one in features]
    unit = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in apart]
    assert near[5]["rows"][0][0] == int((unit[1] @ unit[0][5]).argmax())
    content = (tmp_path / "report" / HTML).read_text()
    assert (
        "similar training rows have the label that the model answered" in content and "<script" not in content
    )


def test_texts_are_painted_in_the_report(reviews: Path, bert: Path, tmp_path: Path) -> None:
    model, rows = tmp_path / "model", reviews_table(60, "t")
    training = Training(
        strategy="full", epochs=2, learning_rate=1e-2, backbone_learning_rate=5e-3, batch_size=16
    )
    backbone = Backbone(family="transformers", weights=str(bert))
    task = Task(kind="text_classification", max_length=16)
    train_model(Inputs(reviews, Settings(task, backbone, training, COMPUTE), bert), model)
    hostile = pa.array([f"{text} {EVIL}" for text in rows["text"].to_pylist()])
    rows = rows.set_column(0, "text", hostile)
    labels = pa.array([["yes"]] * 20 + rows["labels"].to_pylist()[20:], pa.list_(pa.string()))
    rows = rows.set_column(1, "labels", labels)
    predictor = Predictor.load(model)
    checks = Checks.parse({"near_duplicates": "off"}, "checks")
    one = Judged(predictor, rows, rows, predictor.predict(rows), EXPLAINED, checks)
    details = predictor.task.details(one)
    page = "".join(predictor.task.panels(one, {"details": details}))
    assert isinstance(predictor.task, text_classification.TextClassification)
    assert '<mark class="for4"' in page and '<mark class="not' in page and "<script" not in page
    assert Page(page).text.count("All 3 most similar training rows") + page.count(
        "Of the 3 most similar"
    ) == len(details["nearest"])
