"""Sounds go through every step: from a folder to a report, and to a registered version that serves."""

from __future__ import annotations

import json
import re
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrainer.data.ingest import ingest
from retrainer.data.preprocess import preprocess
from retrainer.evaluation.evaluate import Request, evaluate_model
from retrainer.formats.dataset import Dataset
from retrainer.formats.report import HTML
from retrainer.resolve import source_columns
from retrainer.services.weights import fetch
from retrainer.settings import Backbone, Checks, Compute, Evaluation, Gate, Source, Split, Task, Training
from retrainer.training.compute import resolve_compute
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import train_model
from tests.project import make_project, run
from tests.whispers import as_ctranslate2, tiny_whisper

RATE = 8000
WORDS = ("ab", "ba", "aab", "b b")
COMPUTE = resolve_compute(Compute(device="cpu", dtype="float32", threads=1))
SETTINGS: dict[str, dict[str, Any]] = {
    "source": {"kind": "audio_folder", "pattern": "{text}_{group}_{index}.wav", "test_groups": ["eve"]},
    "task": {"kind": "speech_recognition", "sampling_rate": RATE, "noise": 0.2},
    "backbone": {"family": "speech_conv", "width": 32, "blocks": 1, "mels": 16, "stride": 1},
    "training": {"strategy": "scratch", "epochs": 16, "batch_size": 16, "learning_rate": 1e-2},
}
CLASSES = {"source": {"pattern": "{label}_{group}_{index}.wav"}, "task": {"kind": "audio_classification"}}

PLAYER = re.compile(r'<audio controls preload="none" aria-label="[^"]+" src="data:audio/wav;base64,UklGR')


def record(folder: Path, count: int = 96) -> Path:
    """Words of two tones by four speakers, each with a pitch of its own."""
    draws = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(count):
        word, speaker = WORDS[number % 4], ("ann", "bob", "cid", "eve")[number // 4 % 4]
        tones = {"a": 300, "b": 1500, " ": 0}
        pitch = {"ann": 0.9, "bob": 1.0, "cid": 1.1, "eve": 1.05}[speaker]
        at = np.arange(640) / RATE
        pieces = [np.sin(2 * np.pi * tones[letter] * pitch * at) for letter in word]
        sound = np.concatenate([part for piece in pieces for part in (piece, np.zeros(320))])
        samples = 9000 * sound + 300 * draws.standard_normal(len(sound))
        with wave.open(str(folder / f"{word}_{speaker}_{number}.wav"), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(samples.astype("<i2").tobytes())
    return folder


def judged(root: Path, changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Every step but the registry's; returns the report's figures."""
    plain = {name: section | changes.get(name, {}) for name, section in SETTINGS.items()}
    plain["backbone"] = changes.get("backbone", SETTINGS["backbone"])
    task = Task.parse(plain["task"], "task")
    columns = {"path": str(record(root / "sounds")), "columns": source_columns(task)}
    source = Source.parse(plain["source"] | columns, "source")
    ingest(source, root / "raw")
    preprocess(root / "raw", root / "dataset", Split(validation=0.34), Checks(), task)
    sections = Backbone.parse(plain["backbone"], ""), Training.parse(plain["training"], "")
    inputs = Inputs(root / "dataset", Settings(task, *sections, COMPUTE), fetch(sections[0]))
    train_model(inputs, root / "model")
    few = Evaluation(resamples=200)
    return evaluate_model(Request(root / "dataset", root / "model", root / "report", few, Gate(), COMPUTE))


def test_speech_recognition_from_folder_to_report(tmp_path: Path) -> None:
    report = judged(tmp_path, {})
    dataset = Dataset(tmp_path / "dataset")
    assert dataset.labels == () and dataset.manifest["rows"]["test"] == 24
    assert set(dataset.split("test")["group"].to_pylist()) == {"eve"}
    assert "eve" not in dataset.split("train")["group"].to_pylist()
    rates = report["metrics"]
    assert rates["word_error_rate"]["value"] < 0.3 and rates["word_error_rate"]["n"] == 24
    baselines = {
        name: one["metrics"]["word_error_rate"]["value"] for name, one in report["baselines"].items()
    }
    assert list(baselines) == ["commonest_text", "nearest_sound"]
    assert baselines["commonest_text"] > rates["word_error_rate"]["value"]
    assert report["details"]["groups"][0]["group"] == "eve"
    page = (tmp_path / "report" / HTML).read_text()
    assert "By group" in page
    assert bool(report["details"]["worst"]) == bool(PLAYER.search(page))


def test_the_worst_rows_can_be_heard(tmp_path: Path) -> None:
    """Of a network that has learned next to nothing; in a page that needs no other file."""
    report = judged(tmp_path, {"training": {"epochs": 1}})
    assert report["details"]["worst"] and report["details"]["edits"]
    page = (tmp_path / "report" / HTML).read_text()
    assert len(PLAYER.findall(page)) == len(report["details"]["worst"])
    assert "media-src data:" in page and len(page) < 3_000_000


def test_classes_of_sounds_from_folder_to_report(tmp_path: Path) -> None:
    report = judged(tmp_path, CLASSES | {"training": {"epochs": 24}})
    assert report["metrics"]["accuracy"]["value"] > 0.7
    assert list(report["baselines"]) == ["majority", "log_mel_linear"]
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["headline"] == "accuracy"


def test_given_weights_answer_untouched_beside_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a rate that moves nothing, the model's figures are those of its start."""
    monkeypatch.chdir(tmp_path)
    weights = as_ctranslate2(tiny_whisper(tmp_path / "plain"), tmp_path / "given")
    still = {"strategy": "last-n", "epochs": 1, "backbone_learning_rate": 1e-12}
    changes = {
        "task": {"sampling_rate": 16_000, "max_seconds": 0.6, "max_length": 6, "noise": 0},
        "backbone": {"family": "speech_transformers", "weights": str(weights)},
        "training": still,
    }
    report = judged(tmp_path / "whole", changes)
    given = report["baselines"]["given_weights"]
    assert given["title"] == "the given weights, untouched"
    assert given["metrics"] == report["metrics"] and given["note"] == ""
    assert list(report["baselines"]) == ["commonest_text", "nearest_sound", "given_weights"]
    assert f"{given['title']}" in (tmp_path / "whole" / "report" / HTML).read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_registered_version_serves_classes_that_a_frozen_whisper_hears(tmp_path: Path) -> None:
    """The tutorial of speech recognition does the same with texts, and with a network from scratch."""
    import yaml

    project = make_project(tmp_path / "project")
    record(project / "data" / "sounds")
    as_ctranslate2(tiny_whisper(tmp_path / "plain"), project / "data" / "whisper")
    recipe = {name: section | CLASSES.get(name, {}) for name, section in SETTINGS.items()}
    recipe["source"] |= {"path": "data/sounds"}
    recipe["task"] = {"kind": "audio_classification", "max_seconds": 0.6}
    recipe["backbone"] = {"family": "speech_transformers", "weights": "./data/whisper", "window_seconds": 0.6}
    recipe["training"] = {"strategy": "frozen", "epochs": 2}
    recipe |= {"registry": {"name": "mine"}, "compute": {"device": "cpu", "threads": 1}}
    (project / "recipes" / "mine.yaml").write_text(yaml.safe_dump(recipe))
    assert "smoke: mine passes every step" in run(project, "smoke", "--recipe", "mine")
    (kept,) = (project / ".run" / "weights").glob("whisper-*")
    assert (kept / "model.safetensors").is_file()
