"""Evaluation from real, tiny models to a sealed report with a verdict."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from retrainer.errors import UserError
from retrainer.evaluation import rows
from retrainer.evaluation.data_facts import data_facts
from retrainer.evaluation.evaluate import Request, evaluate_model
from retrainer.evaluation.views import views
from retrainer.formats.columns import probability_matrix
from retrainer.formats.dataset import Dataset, write_dataset
from retrainer.formats.model import seal
from retrainer.formats.report import read_report
from retrainer.gate.evidence import Champion
from retrainer.models._network import Body, Network
from retrainer.predict import Predictor
from retrainer.settings import Backbone, Checks, Evaluation, Gate, Task, Training
from retrainer.tasks import image_classification, text_classification
from retrainer.tasks._heads import LinearHead
from retrainer.tasks._protocol import Judged
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import train_model
from retrainer.uses_of_test_set import Judgement
from tests.encoders import tokenizer_json
from tests.stripes import COMPUTE, KINDS, QUICK, SIDE, SIZES, judged, made, table


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows two of the three classes."""
    return made(tmp_path_factory.mktemp("weak"), ("across", "down"))[1]


@pytest.fixture(scope="module")
def hasty(three: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the same dataset that has hardly been trained."""
    model = tmp_path_factory.mktemp("hasty") / "model"
    task = Task(kind="image_classification", size=SIDE, channels=1)
    backbone = Backbone(family="mlp", hidden=[16])
    training = Training(strategy="scratch", epochs=1, learning_rate=1e-6, batch_size=16)
    train_model(Inputs(three[0], Settings(task, backbone, training, COMPUTE)), model)
    return model


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return made(tmp_path_factory.mktemp("several"), several=True, epochs=10)


@pytest.fixture(scope="module")
def report(three: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "report"
    evaluate_model(Request(*three, out, QUICK, Gate(), COMPUTE, name="stripes"))
    return out


def test_the_first_good_model_becomes_champion(three: tuple[Path, Path], report: Path) -> None:
    told = read_report(report)
    assert told["gate"]["verdict"] == "champion"
    assert told["gate"]["champion"] is None and told["champion"] is None
    assert told["gate"]["reasons"] == ["the first version, so there is none to compare it with"]
    assert told["rows"] == 60 and told["metrics"]["accuracy"]["n"] == 60
    assert told["metrics"]["accuracy"]["value"] > 0.8
    assert told["model_sha256"] == json.loads((three[1] / "manifest.json").read_text())["model_sha256"]
    assert set(told["baselines"]) == {"majority", "pixels_linear"}
    assert told["baselines"]["majority"]["metrics"]["accuracy"]["value"] == pytest.approx(1 / 3, abs=1e-6)
    assert told["labels"] == list(KINDS)


def test_every_test_row_is_kept_with_its_answer(three: tuple[Path, Path], report: Path) -> None:
    kept, told = pq.read_table(report / "predictions.parquet"), read_report(report)
    assert kept.column_names == ["origin", "id", "labels", "label", "probabilities"]
    assert kept["id"].to_pylist() == [f"row-2-{n}" for n in range(60)]
    correct = [
        [one] == truth for one, truth in zip(*(kept[n].to_pylist() for n in ("label", "labels")), strict=True)
    ]
    assert np.mean(correct) == pytest.approx(told["metrics"]["accuracy"]["value"], abs=1e-6)
    test = pq.read_table(three[0] / "test-00000.parquet")
    predicted = Predictor.load(three[1]).predict(test)
    assert kept.select(predicted.column_names).equals(predicted)
    assert kept["labels"].to_pylist() == test["labels"].to_pylist()


def test_the_sample_holds_raw_inputs_of_every_class_beside_their_answers(report: Path) -> None:
    sample, kept = pq.read_table(report / "sample.parquet"), pq.read_table(report / "predictions.parquet")
    assert sample.column_names == ["row", "image", "labels", "label", "probabilities"]
    assert len(sample) == 32
    assert {row[0] for row in sample["labels"].to_pylist()} == set(KINDS)
    places = sample["row"].to_pylist()
    assert places == sorted(set(places))
    for name in ("labels", "label", "probabilities"):
        assert sample[name].to_pylist() == kept[name].take(places).to_pylist()


def test_large_inputs_make_the_sample_smaller(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = pq.read_table(report / "predictions.parquet")
    test = table(KINDS, 60, 2)
    monkeypatch.setattr(rows, "SAMPLE_BYTES", 1000)
    task = image_classification.make(Task(), KINDS)
    few = rows.sample_table(test, kept, task)
    assert 2 < len(few) < 32
    monkeypatch.setattr(rows, "SAMPLE_BYTES", 1)
    assert len(rows.sample_table(test, kept, task)) == rows.FEWEST_ROWS


def test_the_same_inputs_give_the_same_bytes_and_name_no_place(
    three: tuple[Path, Path], report: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    evaluate_model(Request(*three, again, QUICK, Gate(), COMPUTE, name="stripes"))
    names = sorted(path.name for path in report.iterdir())
    files = ["manifest.json", "metrics.json", "model_card.md", "predictions.parquet", "report.html"]
    assert names == [*files, "sample.parquet"]
    for name in names:
        content = (report / name).read_bytes()
        assert content == (again / name).read_bytes(), name
        assert str(three[0].parent).encode() not in content, name


def test_an_altered_report_is_refused(report: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(report, copy)
    path = copy / "metrics.json"
    path.write_text(path.read_text().replace('"challenger"', '"champion"') + " ")
    with pytest.raises(UserError, match=r"metrics\.json was altered"):
        read_report(copy)


def test_the_champion_itself_stays_champion_and_is_not_scored_twice(
    three: tuple[Path, Path], tmp_path: Path
) -> None:
    digest = json.loads((three[1] / "manifest.json").read_text())["model_sha256"]
    # Its directory is not even there: nothing of it is read.
    itself = Champion("3", digest, tmp_path / "nowhere")
    told = evaluate_model(Request(*three, tmp_path / "out", QUICK, Gate(), COMPUTE, itself))
    assert told["gate"]["verdict"] == "champion"
    assert told["gate"]["reasons"] == ["no new data came: the same rows gave the very model that is champion"]
    assert told["champion"]["same"] and not told["champion"]["compared"]
    assert told["gate"]["champion"] == {"version": "3", "model_sha256": digest}


def test_a_better_model_beats_a_champion_that_lacks_a_class(
    three: tuple[Path, Path], weak: Path, tmp_path: Path
) -> None:
    told = judged(three, tmp_path / "out", weak)
    assert told["gate"]["verdict"] == "challenger" and told["gate"]["appeared"] == ["plain"]
    assert "accept it by gate.accept_classes: [plain]" in told["gate"]["reasons"][0]
    told = judged(three, tmp_path / "out", weak, Gate(accept_classes=("plain",)))
    assert told["gate"]["verdict"] == "champion"
    champion = told["champion"]
    assert champion["compared"] and champion["difference"] > 0.2
    assert champion["note"] == "it does not know 'plain': 20 rows are wrong for it from the start"
    assert champion["metrics"]["accuracy"]["value"] < 0.67
    assert champion["better"] - champion["worse"] == pytest.approx(champion["difference"] * 60)
    assert champion["p_value"] == told["gate"]["p_value"] < 0.05
    assert champion["metrics"]["log_loss"]["value"] > told["metrics"]["log_loss"]["value"]


def test_a_worse_model_is_a_challenger(three: tuple[Path, Path], hasty: Path, tmp_path: Path) -> None:
    told = judged((three[0], hasty), tmp_path / "out", three[1])
    assert told["gate"]["verdict"] == "challenger"


def test_a_model_of_another_dataset_is_never_judged(
    three: tuple[Path, Path], weak: Path, tmp_path: Path
) -> None:
    """Test rows here may have been training rows there, after another split of the same data, say."""
    with pytest.raises(UserError, match=r"was trained on another dataset .*; run train again"):
        judged((three[0], weak), tmp_path / "report", None)
    assert not (tmp_path / "report").exists()


def newer(model: Path, folder: Path) -> Path:
    copy = folder / "newer"
    shutil.copytree(model, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(
        json.dumps(manifest | {"format_version": 99, "model_sha256": "f" * 64})
    )
    return copy


@pytest.mark.parametrize("case", ["newer format", "several labels", "altered"])
def test_a_champion_that_cannot_be_compared_stays(
    case: str, three: tuple[Path, Path], several: tuple[Path, Path], weak: Path, tmp_path: Path
) -> None:
    champion = several[1]
    if case == "newer format":
        champion = newer(weak, tmp_path)
    if case == "altered":
        champion = tmp_path / "altered"
        shutil.copytree(weak, champion)
        (champion / "model.safetensors").write_bytes(b"no weights")
    told = judged(three, tmp_path / "out", champion)
    assert told["gate"]["verdict"] == "challenger"
    (reason,) = told["gate"]["reasons"]
    said = {
        "newer format": "format 99",
        "several labels": "it predicts labels, probabilities, this model label, probabilities",
        "altered": "was altered",
    }
    assert reason.startswith("the champion cannot be compared on these rows: ") and said[case] in reason
    assert not told["champion"]["compared"] and told["gate"]["p_value"] is None
    assert told["gate"]["champion"]["version"] == "7"
    assert str(tmp_path) not in (tmp_path / "out" / "report.html").read_text()


def test_several_labels_a_row(several: tuple[Path, Path], tmp_path: Path) -> None:
    told = judged(several, tmp_path / "out", None)
    assert told["labels"] == ["across", "down", "striped"]
    assert told["metrics"]["accuracy"]["value"] > 0.5
    assert told["about"]["accuracy"]["title"] == "subset accuracy"
    assert list(told["metrics"]) == ["accuracy", "macro_f1", "micro_f1", "log_loss", "calibration_error"]
    assert told["details"]["confusion"] is None
    assert views(tmp_path / "out")["confusion"] == {}
    kept = pq.read_table(tmp_path / "out" / "predictions.parquet")
    assert kept.column_names == ["origin", "id", "labels", "predicted_labels", "probabilities"]
    chosen = [[name for name, p in row.items() if p > 0.5] for row in kept["probabilities"].to_pylist()]
    assert kept["predicted_labels"].to_pylist() == chosen


def test_the_views_are_what_kubeflow_itself_would_log(report: Path) -> None:
    from kfp.dsl import ClassificationMetrics

    shown, told = views(report), read_report(report)
    counts = [[0] * 3 for _ in range(3)]
    for true, given, number in told["details"]["confusion"]["cells"]:
        counts[true][given] = number
    expected = ClassificationMetrics()
    expected.log_confusion_matrix(list(KINDS), counts)
    assert shown["confusion"]["confusionMatrix"] == expected.metadata["confusionMatrix"]
    assert shown["metrics"]["accuracy"] == told["metrics"]["accuracy"]["value"]
    assert shown["metrics"]["promoted"] == 1.0
    # Kubeflow's MLflow plugin logs a text as 0.
    assert all(isinstance(value, int | float) for value in shown["metrics"].values())


@pytest.mark.parametrize("classes", [2, 3])
def test_the_roc_curve_is_the_one_of_scikit_learn(
    weak: Path, three: tuple[Path, Path], tmp_path: Path, classes: int
) -> None:
    """More than two classes: the micro-average, over every pair of a row and a class."""
    from kfp.dsl import ClassificationMetrics
    from sklearn.metrics import roc_auc_score

    judged((weak.parent / "dataset", weak) if classes == 2 else three, tmp_path / "out", None)
    points = views(tmp_path / "out")["confusion"]["confidenceMetrics"]
    assert len(points) <= 101
    expected = ClassificationMetrics()
    expected.log_roc_curve([0.1], [0.9], [0.5])
    assert set(points[0]) == set(expected.metadata["confidenceMetrics"][0])
    rates = [(p["falsePositiveRate"], p["recall"]) for p in points]
    assert rates == sorted(rates) and rates[0] == (0.0, 0.0) and rates[-1] == (1.0, 1.0)
    assert all(np.isfinite(p["confidenceThreshold"]) for p in points)
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(rates))
    kept = pq.read_table(tmp_path / "out" / "predictions.parquet")
    labels = read_report(tmp_path / "out")["labels"]
    truth = np.array([[label in row for label in labels] for row in kept["labels"].to_pylist()])
    scores = probability_matrix(kept)
    if classes == 2:
        truth, scores = truth[:, 1], scores[:, 1]
    assert area == pytest.approx(roc_auc_score(truth.ravel(), scores.ravel()), abs=0.005)


def test_without_the_cheap_baseline_the_report_says_why(three: tuple[Path, Path], tmp_path: Path) -> None:
    evaluation = Evaluation(resamples=100, baseline=False, explain=0)
    told = evaluate_model(Request(*three, tmp_path / "out", evaluation, Gate(), COMPUTE))
    assert set(told["baselines"]) == {"majority"}
    assert told["no_baseline"] == "evaluation.baseline is false"


def test_a_floor_makes_a_challenger_even_of_the_first(three: tuple[Path, Path], tmp_path: Path) -> None:
    told = judged(three, tmp_path / "out", None, Gate(min_value=1.0))
    if told["metrics"]["accuracy"]["value"] < 1.0:
        assert told["gate"]["verdict"] == "challenger"
        assert "gate.min_value" in told["gate"]["reasons"][0]


@pytest.mark.parametrize(("empty", "said"), [("test", "no test rows"), ("train", "no training rows")])
def test_rows_are_needed(empty: str, said: str, three: tuple[Path, Path], tmp_path: Path) -> None:
    splits = {name: table(KINDS, 0 if name == empty else 9, 1) for name in SIZES}
    digest = write_dataset(tmp_path / "dataset", splits)["content_sha256"]
    model = shutil.copytree(three[1], tmp_path / "model")
    seal(model, json.loads((model / "settings.json").read_text()), digest)
    with pytest.raises(UserError, match=said):
        evaluate_model(Request(tmp_path / "dataset", model, tmp_path / "out", QUICK, Gate(), COMPUTE))
    assert not (tmp_path / "out").exists()


def test_texts_that_are_cut_are_counted_exactly(tmp_path: Path) -> None:
    """By tokens, special ones and the second text included: the row that just fits is not cut."""
    words = ["a b c d", "a b c d e", "a b c d e f", "a", "a b c"]
    pairs = [None, None, None, None, "d e"]
    test = pa.table(
        {
            "text": words,
            "text_pair": pa.array(pairs, pa.string()),
            "labels": pa.array([["x"]] * 5, pa.list_(pa.string())),
        }
    )
    write_dataset(tmp_path / "dataset", {"train": test, "test": test})
    preprocessing = {"kind": "tokens", "tokenizer": "t", "max_length": 7, "pad_id": 0, "pairs": True}
    body = Body(
        torch.nn.Identity(), lambda *_: torch.empty(0), 1, {}, preprocessing, {"t": tokenizer_json().encode()}
    )
    task = text_classification.make(Task(), ("x",))
    predictor = Predictor(Network(body, LinearHead(body.width, 1)), task, "cpu", "")
    judged = Judged(predictor, test, test, test, QUICK, Checks())
    facts = data_facts(Dataset(tmp_path / "dataset"), judged, {})
    # [CLS] a b c d e [SEP] fits; one word more does not, nor does a pair with its second [SEP].
    assert (facts["max_length"], facts["cut_rows"]) == (7, 2)
    assert facts["rows"] == {"train": 5, "test": 5} and facts["checks"] == []


def test_without_row_keys_it_says_that_nothing_is_known(
    three: tuple[Path, Path], hasty: Path, tmp_path: Path
) -> None:
    told = judged(three, tmp_path / "out", hasty)
    assert told["test_set"]["champion"] is None and told["champion"]["metrics"]["accuracy"]["n"] == 60
    assert "trained or tested on some of these rows is not known" in (
        (tmp_path / "out" / "report.html").read_text()
    )


def test_models_that_the_same_rows_have_judged_are_counted(three: tuple[Path, Path], tmp_path: Path) -> None:
    own = json.loads((three[1] / "manifest.json").read_text())["model_sha256"]
    first = evaluate_model(Request(*three, tmp_path / "first", QUICK, Gate(), COMPUTE))["test_set"]
    sha256 = first.pop("sha256")
    assert first == {"sample": "", "uses": 1, "champion": None, "learned": 0}
    before = [Judgement(one, sha256, "") for one in ("a" * 64, "b" * 64, own)]
    before.append(Judgement("c" * 64, "d" * 64, ""))
    told = evaluate_model(
        Request(*three, tmp_path / "out", QUICK, Gate(), COMPUTE, judgements=lambda: before)
    )
    assert told["test_set"]["uses"] == 3


def test_slices_of_both_sections_are_measured(three: tuple[Path, Path], tmp_path: Path) -> None:
    gate = Gate(slice_floors={"brightness": 0.5})
    evaluation = Evaluation(resamples=100, slices=("class",), explain=0)
    told = evaluate_model(Request(*three, tmp_path / "out", evaluation, gate, COMPUTE))
    by = [one["by"] for one in told["slices"]]
    assert by[:3] == ["class"] * 3 and set(by[3:]) == {"brightness"}
    recall = {one["label"]: one["recall"] for one in told["details"]["per_class"]}
    assert {one["name"]: one["value"] for one in told["slices"][:3]} == recall
    with pytest.raises(UserError, match=r"evaluation\.slices: the test rows have no slice 'regoin'"):
        wrong = Evaluation(resamples=100, slices=("regoin",), explain=0)
        evaluate_model(Request(*three, tmp_path / "no", wrong, gate, COMPUTE))
    assert not (tmp_path / "no").exists()


def test_the_time_of_an_answer_is_measured_where_the_gate_asks(
    three: tuple[Path, Path], report: Path, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    told = judged(three, tmp_path / "out", None, Gate(max_latency_ms=1000))
    assert 0 < told["cost"]["latency_ms"] < 1000
    assert torch.get_num_threads() == threads
    size = sum(file.stat().st_size for file in three[1].iterdir()) / 1e6
    assert told["cost"]["model_mb"] == pytest.approx(size, abs=1e-3)
    # Nobody asked: the report is the same to the byte every time.
    assert read_report(report)["cost"]["latency_ms"] is None


def test_the_views_have_the_new_numbers(report: Path) -> None:
    shown, told = views(report)["metrics"], read_report(report)
    assert shown["temperature"] == told["details"]["calibration"]["temperature"]
    assert shown["uncalibrated_error"] == told["details"]["calibration"]["uncalibrated_error"]
    assert (shown["test_uses"], shown["model_mb"]) == (1, told["cost"]["model_mb"])
    assert "latency_ms" not in shown and "p_value" not in shown


RECALL = """
import numpy as np

TITLE, UNIT, HIGHER_IS_BETTER, LOWEST, HIGHEST = "recall of plain", "share", True, 0.0, 1.0


def statistics(predictions, truth):
    had = np.array([names == ["plain"] for names in truth["labels"].to_pylist()])
    right = np.array(predictions["label"].to_pylist()) == "plain"
    return np.stack([had & right, had], axis=1).astype(float)


def value(sums):
    return np.divide(sums[..., 0], sums[..., 1], out=np.zeros(np.shape(sums[..., 0])), where=sums[..., 1] > 0)
"""


def test_a_metric_that_this_task_does_not_have_is_refused(three: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gate\.metric: no 'macro-f1'|neither a file of retrainer/metrics"):
        judged(three, tmp_path / "out", None, Gate(metric="macro-f1"))
    assert not (tmp_path / "out").exists()


def test_a_plugins_metric_can_be_the_gates(
    three: tuple[Path, Path], hasty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the rows of one class, the share that is right; and a floor in it, and slices."""
    (tmp_path / "plugs").mkdir()
    (tmp_path / "plugs" / "my_recall.py").write_text(RECALL)
    monkeypatch.syspath_prepend(tmp_path)
    gate = Gate(metric="plugs.my_recall", min_value=0.5, slice_floors={"class": 0.0})
    told = judged(three, tmp_path / "out", hasty, gate)
    kept = {one["label"]: one["recall"] for one in told["details"]["per_class"]}
    assert told["headline"] == told["gate"]["metric"] == "plugs.my_recall"
    assert told["metrics"]["plugs.my_recall"]["value"] == pytest.approx(kept["plain"], abs=1e-6)
    assert told["champion"]["metrics"]["plugs.my_recall"]["n"] == 60
    by = {one["name"]: one["value"] for one in told["slices"]}
    assert by == {"plain": pytest.approx(kept["plain"], abs=1e-6), "across": 0.0, "down": 0.0}
    assert "recall of plain" in (tmp_path / "out" / "report.html").read_text()
