"""The peer on texts: `transformers.Trainer`, by its own public interface, tuned and as shipped.

Both read the same dataset directory, weights and settings as ours. Legend: B rows, T tokens, K classes.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)

from benchmarks.speed._texts import DATASET, Target, read_settings
from benchmarks.speed.race import Figures, since_start
from retrainer import extend
from retrainer.formats.dataset import Dataset
from retrainer.services import weights
from retrainer.training.groups import backbone_rate, network_groups
from retrainer.training.inputs import Settings
from retrainer.training.train import build_network

if TYPE_CHECKING:
    from retrainer.models._network import Network

EVALUATION_BATCH = 64  # as ours
Rows = list[dict[str, Any]]


class WithLoss(nn.Module):
    """Our network as Trainer wants one: the same pooling, head and initial values."""

    def __init__(self, network: Network, smoothing: float) -> None:
        super().__init__()
        self.network, self.smoothing = network, smoothing

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.network({"input_ids": input_ids, "attention_mask": attention_mask})
        smoothing = self.smoothing if self.training else 0.0
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
        return {"loss": loss, "logits": logits}


class Watch(TrainerCallback):
    """Tells the accuracy after each epoch, as `on_epoch` does for ours."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **_: Any) -> None:  # noqa: ARG002
        self.target(round(state.epoch), {"validation_accuracy": metrics["eval_accuracy"]})


def tuned(work: Path, seed: int, target: float = 1.0, whole: bool = False) -> Figures:
    """Rows of one length together, bf16 as ours, fused AdamW with our rates and decay, padded to the batch.

    The seconds are those of `train()`, or with `whole` of the process.
    """
    settings, data = read_settings(work, seed), Dataset(work / DATASET)
    start = weights.fetch(settings.backbone)
    assert isinstance(start, Path)
    tokenizer = AutoTokenizer.from_pretrained(start)
    train, validation = (
        _tokenised(data, name, tokenizer, settings, False) for name in ("train", "validation")
    )
    task = extend.load("tasks", settings.task.kind, "task.kind").make(settings.task, data.labels)
    network = build_network(task, settings.backbone, settings.training, start)
    groups = [{k: v for k, v in g.items() if k != "peak"} for g in network_groups(network, settings.training)]
    training = settings.training
    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer(
            WithLoss(network, training.label_smoothing),
            TrainingArguments(
                out,
                **_same(settings),
                bf16=settings.compute.dtype == "bfloat16",
                train_sampling_strategy="group_by_length",
                lr_scheduler_type=training.schedule,
                warmup_steps=training.warmup,
                save_strategy="no",
                disable_tqdm=True,
            ),
            data_collator=DataCollatorWithPadding(tokenizer),
            optimizers=(torch.optim.AdamW(groups, fused=True), None),
            **_rows_of(train, validation),
        )
        return _run(trainer, train, settings, Target(target), whole)


def shipped(work: Path, seed: int, target: float = 1.0, whole: bool = False, rows: int = 0) -> Figures:
    """As in Hugging Face's example for text classification: padded to the maximum, float32, defaults.

    With `rows` it trains on so many of them, and on as small a share of the validation rows.
    """
    settings, data = read_settings(work, seed), Dataset(work / DATASET)
    start = weights.fetch(settings.backbone)
    tokenizer = AutoTokenizer.from_pretrained(start)
    train, validation = (
        _tokenised(data, name, tokenizer, settings, True) for name in ("train", "validation")
    )
    if rows:
        train, validation = train[:rows], validation[: len(validation) * rows // len(train)]
    model = AutoModelForSequenceClassification.from_pretrained(start, num_labels=len(data.labels))
    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer(
            model,
            TrainingArguments(out, **_same(settings), learning_rate=backbone_rate(settings.training)),
            data_collator=default_data_collator,
            **_rows_of(train, validation),
        )
        return _run(trainer, train, settings, Target(target), whole)


def _same(settings: Settings) -> dict[str, Any]:
    """The work: what is equal for all."""
    training = settings.training
    return {
        "num_train_epochs": training.epochs,
        "per_device_train_batch_size": training.batch_size,
        "per_device_eval_batch_size": EVALUATION_BATCH,
        "eval_strategy": "epoch",
        "max_grad_norm": training.clip_norm,
        "weight_decay": training.weight_decay,
        "seed": training.seed,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "report_to": "none",
    }


def _rows_of(train: Rows, validation: Rows) -> dict[str, Any]:
    return {"train_dataset": train, "eval_dataset": validation, "compute_metrics": _accuracy}


def _accuracy(answers: Any) -> dict[str, float]:
    return {"accuracy": float((answers.predictions.argmax(-1) == answers.label_ids).mean())}


def _tokenised(data: Dataset, split: str, tokenizer: Any, settings: Settings, padded: bool) -> Rows:
    """Every row once, before the clock of `train()`."""
    table = data.split(split, ["text", "labels"])
    number = {label: i for i, label in enumerate(data.labels)}
    made = tokenizer(
        table["text"].to_pylist(),
        truncation=True,
        max_length=settings.task.options["max_length"],
        padding="max_length" if padded else False,
        return_token_type_ids=False,
    )
    targets = [number[labels[0]] for labels in table["labels"].to_pylist()]
    columns = {**made, "labels": targets}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _run(trainer: Trainer, train: Rows, settings: Settings, target: Target, whole: bool) -> Figures:
    trainer.add_callback(Watch(target))
    began = time.perf_counter()
    trainer.train()
    seconds = since_start() if whole else time.perf_counter() - began
    epochs = settings.training.epochs
    tokens = epochs * int(sum(np.sum(row["attention_mask"]) for row in train))
    return {
        "samples": len(train) * epochs,
        "seconds": seconds,
        "tokens": tokens,
        "accuracy": target.accuracy,
        "to_target": target.reached,
    }
