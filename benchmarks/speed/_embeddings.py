"""The cheap peer on texts: frozen sentence embeddings and a logistic regression on them."""

from __future__ import annotations

from pathlib import Path

from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression

from benchmarks.speed._texts import DATASET, Target, read_settings
from benchmarks.speed.race import Figures, since_start
from retrainer.formats.dataset import Dataset
from retrainer.services import weights


def logistic(work: Path, seed: int, target: float = 1.0, inverse_penalty: float = 10.0) -> Figures:
    """Every row is embedded once, as the package does it by default; its seconds are the whole process's.

    Its accuracy is measured once, when it has fitted: there are no epochs, and nothing is drawn from `seed`.
    """
    settings, data = read_settings(work, seed), Dataset(work / DATASET)
    encoder = SentenceTransformer(str(weights.fetch(settings.backbone)), device="cpu")
    watch = Target(target)
    inputs, answers = [], []
    for split in ("train", "validation"):
        table = data.split(split, ["text", "labels"])
        inputs.append(encoder.encode(table["text"].to_pylist(), show_progress_bar=False))
        answers.append([labels[0] for labels in table["labels"].to_pylist()])
    model = LogisticRegression(C=inverse_penalty, max_iter=1000).fit(inputs[0], answers[0])
    watch(1, {"validation_accuracy": float(model.score(inputs[1], answers[1]))})
    return {
        "samples": len(answers[0]),
        "seconds": since_start(),
        "accuracy": watch.accuracy,
        "to_target": watch.reached,
    }
