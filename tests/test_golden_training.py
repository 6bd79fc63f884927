"""Figures of small trainings, kept in tests/golden: a change of the code leaves them as they are.

To write them anew after a change that is meant: `python -m tests.test_golden_training`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from retrainer.formats.columns import ENCODED
from retrainer.formats.dataset import write_dataset
from retrainer.settings import Backbone, Compute, Task, Training
from retrainer.training.compute import resolve_compute
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import train_model

GOLDEN = Path(__file__).with_name("golden")
COMPUTE = resolve_compute(Compute(device="cpu", dtype="float32", threads=1))
IMAGES = Task(kind="image_classification", size=8, channels=1, shift=1)
LARGER = IMAGES.model_copy(update={"size": 64})
MLP = Backbone(family="mlp", hidden=[16])
# Without BatchNorm, which makes the last digit of another processor's convolutions a percent of the loss.
NETWORK = Backbone(family="torchvision", name="squeezenet1_1")
# Of losses, where kernels for convolutions differ by more: oneDNN's and PyTorch's own by 2e-4.
TOLERANCE = {"images-convolutions": 2e-3}
# Of each: the task, the backbone, the training, and whether it starts from the weights of `images-scratch`.
CASES: dict[str, tuple[Task, Backbone, dict[str, Any], bool]] = {
    "images-scratch": (IMAGES, MLP, {}, False),
    "images-several": (IMAGES.model_copy(update={"multi_label": True}), MLP, {"dropout": 0.2}, False),
    "images-weighted": (IMAGES, MLP, {"balance": "weights", "label_smoothing": 0.1}, False),
    "images-sampled": (IMAGES, MLP, {"balance": "sampling", "ema_decay": 0.9}, False),
    "images-mixed": (IMAGES, MLP, {"mixup": 0.3, "cutmix": 0.5, "accumulate": 2}, False),
    "images-convolutions": (LARGER, NETWORK, {"start_size": 0.5, "learning_rate": 5e-5}, False),
    "images-frozen": (IMAGES, MLP, {"strategy": "frozen", "cached_views": 3, "dropout": 0.1}, True),
    "images-then-full": (IMAGES, MLP, {"strategy": "head-then-full", "head_epochs": 1}, True),
    "texts-scratch": (Task(max_length=12), Backbone(), {}, False),
    "texts-several": (Task(max_length=12, multi_label=True), Backbone(), {"clip_norm": 1.0}, False),
    "texts-lora": (Task(max_length=12), Backbone(), {"strategy": "lora"}, True),
    "texts-last-block": (Task(max_length=12), Backbone(), {"strategy": "last-n", "dropout": 0.3}, True),
}


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_starts(tmp_path_factory.mktemp("starts"))


def make_starts(folder: Path) -> dict[str, Path]:
    """What trainings read: the datasets, an encoder's directory, and weights of images."""
    for name, make in {"images": images, "texts": texts}.items():
        for several in (False, True):
            splits = {split: make(count, several) for split, count in {"train": 70, "validation": 60}.items()}
            write_dataset(folder / f"{name}-{several}", splits)
    save_encoder(folder / "encoder")
    train_case("images-scratch", folder / "weights", {"folder": folder})
    return {"folder": folder}


def train_case(case: str, out: Path, starts: dict[str, Path]) -> dict[str, Any]:
    """Trains it; returns its history and temperature."""
    task, backbone, changes, from_weights = CASES[case]
    folder, kind = starts["folder"], case.split("-")[0]
    weights = {"images": folder / "weights" if from_weights else None, "texts": folder / "encoder"}[kind]
    plain = {"strategy": "scratch", "epochs": 2, "batch_size": 16, "learning_rate": 5e-3, "seed": 3}
    dataset = folder / f"{kind}-{task.multi_label}"
    settings = Settings(task, backbone, Training(**(plain | changes)), COMPUTE)
    made = train_model(Inputs(dataset, settings, weights), out)
    return {
        "history": json.loads((out / "history.json").read_text()),
        "temperature": made["temperature"],
    }


@pytest.mark.parametrize("case", CASES)
def test_a_training_has_the_recorded_losses(case: str, starts: dict[str, Path], tmp_path: Path) -> None:
    made = train_case(case, tmp_path / "model", starts)
    expected = json.loads((GOLDEN / f"training-{case}.json").read_text())
    assert len(made["history"]) == len(expected["history"])
    exact = TOLERANCE.get(case, 1e-5)
    assert made["temperature"] == pytest.approx(expected["temperature"], rel=max(1e-3, 10 * exact))
    for entry, golden in zip(made["history"], expected["history"], strict=True):
        assert entry == pytest.approx(golden, rel=exact, abs=exact)


# --- tiny real parts -----------------------------------------------------------------------------------


def images(count: int, several: bool) -> pa.Table:
    """Noisy pictures of 8 × 8 whose class says which half is brighter; with `several`, also which side."""
    import io

    from PIL import Image

    draws = np.random.default_rng(count)
    vertical, horizontal = draws.integers(0, 3, count) // 2, draws.integers(0, 2, count)
    rows = []
    for top, left in zip(vertical, horizontal, strict=True):
        pixels = draws.integers(0, 120, (8, 8))
        pixels[:4] += 60 * top
        pixels[:, :4] += 40 * left
        stream = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(stream, "PNG")
        rows.append({"bytes": stream.getvalue(), "path": None})
    names = pa.array(labels(vertical, horizontal, several), pa.list_(pa.string()))
    return pa.table({"image": pa.array(rows, ENCODED), "labels": names, "origin": origins(count)})


def texts(count: int, several: bool) -> pa.Table:
    """Words w0 … w35; the classes follow from which of them come."""
    draws = np.random.default_rng(count)
    first, second = draws.integers(0, 2, count), draws.integers(0, 2, count)
    sentences = []
    for one, two in zip(first, second, strict=True):
        numbers = draws.integers(4, 36, draws.integers(2, 9))
        sentences.append(" ".join([f"w{one}", *(f"w{n}" for n in numbers), f"w{2 + two}"]))
    names = pa.array(labels(first, second, several), pa.list_(pa.string()))
    return pa.table({"text": sentences, "labels": names, "origin": origins(count)})


def labels(first: np.ndarray, second: np.ndarray, several: bool) -> list[list[str]]:
    if not several:
        return [["yes" if one else "no"] for one in first]
    pairs = zip(first, second, strict=True)
    return [["top"] * int(one) + ["left"] * int(two) for one, two in pairs]


def origins(count: int) -> list[str]:
    return [f"row {number}" for number in range(count)]


def save_encoder(directory: Path) -> None:
    """A BERT of two narrow blocks with random values, and a tokenizer of one token a word."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    names = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{n}" for n in range(36))]
    made = Tokenizer(models.WordLevel({name: n for n, name in enumerate(names)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(directory)
    (directory / "tokenizer.json").write_text(made.to_str())


def write_golden() -> None:
    """Also prints the digest of each model, which is that of one processor and version of PyTorch."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        starts = make_starts(Path(folder) / "starts")
        for case in CASES:
            made = train_case(case, Path(folder) / case, starts)
            (GOLDEN / f"training-{case}.json").write_text(json.dumps(made, indent=1) + "\n")
            manifest = json.loads((Path(folder) / case / "manifest.json").read_text())
            print(case, manifest["files"]["model.safetensors"])


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    write_golden()
