"""Sequence tagging through every step: from CoNLL files to a report, and tags as they are served."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks._runs import run_step
from components.evaluate import evaluate
from components.ingest import ingest
from components.preprocess import preprocess
from components.train import train
from retrainer.formats.dataset import Dataset
from retrainer.predict import Predictor
from retrainer.registry.bundle import raw_frame, save_bundle
from retrainer.resolve import resolve
from tests.encoders import save_encoder

pytestmark = pytest.mark.slow  # a real MLflow database, and every step

RECIPE = """
registry: {name: names}
source: {path: data}
split: {validation: 0.2}
task: {kind: sequence_tagging, max_length: 16}
backbone: {family: transformers, weights: encoder}
training: {strategy: full, epochs: 12, batch_size: 8, learning_rate: 1e-2, backbone_learning_rate: 1e-2}
compute: {dtype: float32, threads: 1}
"""
# Two words begin a span, a third one goes on with it.
TAGS = {"w0": "B-PER", "w1": "B-LOC", "w2": "I-PER"}


def sentences(count: int, seed: int, documents: int = 1) -> str:
    """CoNLL text of words w0 … w30."""
    draws = random.Random(seed)
    lines: list[str] = []
    for number in range(count):
        if documents > 1 and number % (count // documents) == 0:
            lines += ["-DOCSTART- O", ""]
        words = [f"w{draws.choice([0, 1, *range(3, 31)])}" for _ in range(draws.randint(3, 10))]
        words = [word for one in words for word in ([one, "w2"] if one == "w0" else [one])]
        lines += [f"{word} {TAGS.get(word, 'O')}" for word in words] + [""]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tagging")
    save_encoder(root / "encoder", "bert")
    (root / "data").mkdir()
    (root / "data/train.conll").write_text(sentences(160, 0, documents=20))
    long = "\n".join(f"w{n % 30} {TAGS.get(f'w{n % 30}', 'O')}" for n in range(3, 23))
    (root / "data/test.conll").write_text(sentences(40, 1) + "\n" + long)
    (root / "recipes").mkdir()
    (root / "recipes/names.yaml").write_text(RECIPE)
    (root / "params.yaml").write_text("task: {kind: sequence_tagging}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        patch.chdir(root)
        settled = resolve("names", [], root, root)
        for step in (ingest, preprocess, train, evaluate):
            run_step(step, settled, root)
    return root


def test_documents_are_groups_and_stay_together(made: Path) -> None:
    data = Dataset(made / "dataset")
    assert data.labels == ("B-LOC", "B-PER", "I-PER", "O")
    groups = [set(data.split(name)["group"].to_pylist()) for name in ("train", "validation")]
    assert len(groups[0]) > 10 and groups[1] and not groups[0] & groups[1]


def test_the_report_has_the_metrics_each_type_and_what_was_not_read(made: Path) -> None:
    report = json.loads((made / "report/metrics.json").read_text())
    assert report["headline"] == "span_f1"
    assert set(report["metrics"]) == {"span_f1", "strict_span_f1", "token_accuracy"}
    assert report["metrics"]["span_f1"]["value"] > 0.9
    assert set(report["baselines"]) == {"majority", "word_majority"}
    assert [row["label"] for row in report["details"]["per_type"]] == ["PER", "LOC"]
    assert report["details"]["unread"] == {"words": 6, "rows": 1}  # 14 of 20 words fit beside two marks
    html = (made / "report/report.html").read_text()
    assert "By type" in html and "6 words of 1 test row lie behind the cut" in html


def test_the_saved_model_gives_spans_in_the_texts_own_characters(made: Path) -> None:
    predictor = Predictor.load(made / "model")
    found = predictor.predict(pa.table({"text": ["so w0 w2, w1", "w4\tw1", ""]})).to_pylist()
    assert found[0]["words"] == ["so", "w0", "w2", ",", "w1"]
    spans = [(one["label"], one["text"], one["start"], one["end"]) for one in found[0]["spans"]]
    assert spans == [("PER", "w0 w2", 3, 8), ("LOC", "w1", 10, 12)]
    assert found[1]["tags"] == ["O", "B-LOC"] and all(0 < score <= 1 for score in found[1]["scores"])
    assert found[2] == {"tags": [], "words": [], "scores": [], "spans": []}


@pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*")
@pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*")
def test_a_served_model_answers_with_words_tags_and_spans_as_json(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.pyfunc import load_model

    sample = Dataset(made / "dataset").split("test").select(["text"])
    save_bundle(made / "model", sample, tmp_path / "bundle", "m-0", "run")
    monkeypatch.setattr("sys.path", list(sys.path))
    served = load_model(str(tmp_path / "bundle"), suppress_warnings=True)
    answers = json.loads(served.predict(raw_frame(sample)).to_json(orient="records"))
    expected = Predictor.load(made / "model").predict(sample)
    assert [row["tags"] for row in answers] == expected["tags"].to_pylist()
    assert set(answers[0]) == {"tags", "words", "scores", "spans"}
    spans = [span for row in answers for span in row["spans"]]
    assert spans and set(spans[0]) == {"label", "start", "end", "text", "score"}
