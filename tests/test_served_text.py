"""Serving text pairs with several labels, by a model family that is a plug-in: all it needs goes along."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from retrainer.formats.dataset import SCHEMA, Dataset, write_dataset
from retrainer.predict import Predictor
from retrainer.registry import served_code
from retrainer.registry.bundle import raw_frame, save_bundle
from retrainer.registry.serving_check import ask
from retrainer.settings import Backbone, Task
from tests.registered import untrained_model

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]

FAMILY = '''
"""Mean of word vectors."""
from __future__ import annotations

from retrainer.models._network import Body
from retrainer.settings import Section

from .words import WIDTH, tokenizer


class Options(Section):
    pass


def features(module, batch):
    return module(batch["input_ids"]).mean(dim=1)


def build(options, wanted, weights, seed, fresh):
    body = restore({"seed": seed})
    body.preprocessing = {
        "kind": "tokens", "tokenizer": "tokenizer.json", "max_length": wanted["max_length"],
        "pad_id": 0, "pairs": True,
    }
    body.assets = {"tokenizer.json": tokenizer()}
    return body


def restore(config):
    import torch

    torch.manual_seed(config["seed"])
    return Body(torch.nn.Embedding(64, WIDTH), features, WIDTH, config, {})
'''
WORDS = '''
"""Its vocabulary."""
from __future__ import annotations

WIDTH = 4


def tokenizer() -> bytes:
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {word: place for place, word in enumerate(["?", "good", "bad", "fine", "dull", "and", "so"])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made.to_str().encode()
'''
UNRELATED = "import a_package_that_nobody_has\n"


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with a model family, a file that it needs and one that it does not."""
    folder = tmp_path / "my_plugins"
    folder.mkdir()
    sources = {"__init__": "", "family": FAMILY, "words": WORDS, "unrelated": UNRELATED}
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_plugins.family"


def pairs_dataset(path: Path) -> Path:
    texts = ["good and fine", "bad", "so dull", "fine", "dull and bad", "good"]
    labels: list[list[str]] = [["up"], ["down"], [], ["up", "calm"], ["down"], ["calm"]]
    table = pa.table(
        {
            "text": pa.array(texts, SCHEMA["text"]),
            "text_pair": pa.array(texts[::-1], SCHEMA["text_pair"]),
            "labels": pa.array(labels, SCHEMA["labels"]),
        }
    )
    write_dataset(path, {"train": table, "test": table})
    return path


@pytest.mark.slow
def test_pairs_with_several_labels_by_a_plug_in(tmp_path: Path, plugin: str) -> None:
    dataset = pairs_dataset(tmp_path / "dataset")
    task = Task.parse({"kind": "text_classification", "multi_label": True}, "task")
    model = untrained_model(tmp_path / "model", dataset, task, Backbone(family=plugin))
    test = Dataset(dataset).split("test")
    save_bundle(model, test, tmp_path / "bundle", "m-0", "run")
    found = ask(str(tmp_path / "bundle"), test.select(["text", "text_pair"]))
    assert found["strays"] == []
    predictor = Predictor.load(model)
    expected = predictor.probabilities(test)
    answers: list[dict[str, Any]] = found["answers"]
    told = [[answer["probabilities"][label] for label in predictor.labels] for answer in answers]
    np.testing.assert_allclose(told, expected, atol=1e-6)
    decided = [[predictor.labels[k] for k in np.flatnonzero(row > 0.5)] for row in expected]
    assert [answer["labels"] for answer in answers] == decided
    np.testing.assert_allclose(told_by_use_me(tmp_path / "bundle", test), expected, atol=1e-6)


def told_by_use_me(bundle: Path, rows: pa.Table) -> list[list[float]]:
    """The probabilities that `python use_me.py -` prints of the pairs, where MLflow cannot be imported."""
    pairs = zip(rows["text"].to_pylist(), rows["text_pair"].to_pylist(), strict=True)
    (bundle / "mlflow.py").write_text("raise ModuleNotFoundError('mlflow')")
    command = [sys.executable, "-B", str(bundle / "use_me.py"), "-"]
    lines = "".join(f"{one}\t{two}\n" for one, two in pairs)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, cwd=bundle.parent)
    assert done.returncode == 0, done.stderr
    return [list(json.loads(line)["probabilities"].values()) for line in done.stdout.splitlines()]


def test_a_text_model_takes_what_people_send(
    tmp_path: Path, plugin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd
    from mlflow.pyfunc import load_model

    dataset = pairs_dataset(tmp_path / "dataset")
    task = Task.parse({"kind": "text_classification", "multi_label": True}, "task")
    model = untrained_model(tmp_path / "model", dataset, task, Backbone(family=plugin))
    alone = Dataset(dataset).split("test").drop_columns(["text_pair"])
    save_bundle(model, alone, tmp_path / "bundle", "m-0", "run")
    carried = {path.name for path in (tmp_path / "bundle/code/my_plugins").iterdir()}
    assert carried == {"__init__.py", "family.py", "words.py"}
    monkeypatch.setattr("sys.path", list(sys.path))
    served = load_model(str(tmp_path / "bundle"), suppress_warnings=True)
    texts = alone["text"].to_pylist()
    expected = served.predict(raw_frame(alone.select(["text"]))).to_dict(orient="records")
    assert set(expected[0]) == {"labels", "probabilities"}
    for given in (
        [{"text": text} for text in texts],
        {"text": texts},
        pd.DataFrame({"text": texts, "id": range(6)}),
        pd.Series(texts, name="text"),
    ):
        assert served.predict(given).to_dict(orient="records") == expected
    first = json.loads(served.predict({"text": texts[:2]}).to_json(orient="records"))[0]
    assert first["probabilities"].keys() == {"calm", "down", "up"}
    for wrong, message in (
        (pd.DataFrame({"id": ["1"]}), r"missing inputs \['text'\]"),
        (["good"], r"missing inputs \['text'\]"),
        (pd.DataFrame({"text": ["good", None]}), "row 1: expected a string, found nothing"),
    ):
        with pytest.raises(Exception, match=message):
            served.predict(wrong)


def test_requirements_are_those_of_the_imports() -> None:
    modules, packages = served_code.needed("timm", "image_classification")
    assert {
        "retrainer.predict",
        "retrainer.models.timm",
        "retrainer.tasks.image_classification",
    } <= modules.keys()
    assert not {name for name in modules if name.startswith(("retrainer.services", "retrainer.training"))}
    pinned = {line.partition("==")[0] for line in served_code.requirements(packages)}
    assert {"mlflow", "timm", "torch", "pillow"} <= pinned
    assert "transformers" not in pinned
