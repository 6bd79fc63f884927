"""Suspected label errors in Banking77 and CIFAR-10, and how many of the suspected are wrong indeed.

    python -m benchmarks.trust.labels [banking77] [cifar10] [published] [judged] [--look INTO] [--errors GIT]

Probabilities are out of fold. `--look` writes what a person judges: the most suspect rows, and a sheet of the
images, enlarged. The judgement is kept row by row in benchmarks/results/trust_labels_judged.json; `judged`
counts it. `--errors` is the git directory of a clone of github.com/cleanlab/label-errors: `cifar10` compares
with the errors of the test set that people confirmed, and `published` takes its probabilities, those of a
strong network. Nothing of it is kept here. Results: benchmarks/results/trust_labels.json.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import tarfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._runs import ROOT, machine
from benchmarks.trust._out_of_fold import out_of_fold
from retrainer.label_errors import suspected

DATA = ROOT.parent / "shared" / "data"
RESULTS = ROOT / "benchmarks" / "results" / "trust_labels.json"
JUDGED = ROOT / "benchmarks" / "results" / "trust_labels_judged.json"
JUDGED_ROWS = 40
# In the order of their original numbers.
_CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
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
    """TF-IDF of words and logistic regression, 5 folds of training and test rows together."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    texts, names, categories = [], [], []
    for part in ("train", "test"):
        with (DATA / "banking77" / f"{part}.csv").open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), 1):
                texts.append(row["text"])
                categories.append(row["category"])
                names.append(f"{part}.csv:row {number}")
    labels, given = np.unique(categories, return_inverse=True)
    words = TfidfVectorizer(sublinear_tf=True, min_df=2)
    model = make_pipeline(words, LogisticRegression(C=10, max_iter=200))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    probabilities = cross_val_predict(model, texts, given, cv=folds, method="predict_proba")
    found = Doubted(names, labels.tolist(), given, probabilities, suspected(probabilities, given))
    if look:
        lines = [{**found.told(row), "text": texts[row]} for row in found.rows[:JUDGED_ROWS]]
        (look / "banking77.json").write_text(json.dumps(lines, indent=1, ensure_ascii=False))
    return {"model": "TF-IDF of words + logistic regression", "folds": 5, "seed": 0, **found.figures()}


def cifar10(look: Path | None, errors: Path | None) -> dict[str, Any]:
    """Patch features and logistic regression, 3 folds of training and test images together."""
    import torch

    from benchmarks.trust._patches import patch_features

    names, pixels = _images()
    features = patch_features(torch.from_numpy(pixels), centroids=1000, seed=0).numpy()
    categories = [name.split("/")[1] for name in names]
    found = _doubted(names, categories, features, folds=3, penalty=3e-3, seed=0)
    if look:
        _write_images(look / "cifar10", found, names, pixels)
    model = "k-means patch features (Coates & Ng 2011, 1000 centroids) + logistic regression"
    told = {"model": model, "folds": 3, "seed": 0, **found.figures()}
    test = sum(found.names[row].startswith("test/") for row in found.rows)
    beside = {"suspected_of_the_test_set": test, "shown_to_people": _beside(found, errors)} if errors else {}
    return told | beside


def _write_images(into: Path, found: Doubted, names: list[str], pixels: np.ndarray) -> None:
    first = found.rows[:JUDGED_ROWS]
    place = {name: row for row, name in enumerate(names)}
    into.with_suffix(".json").write_text(json.dumps([found.told(row) for row in first], indent=1))
    _sheet(pixels[[place[found.names[row]] for row in first]]).save(into.with_suffix(".png"))


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
    names: list[str], categories: list[str], features: np.ndarray, folds: int, penalty: float, seed: int
) -> Doubted:
    labels = sorted(set(categories))
    place = {label: number for number, label in enumerate(labels)}
    given = np.array([place[category] for category in categories], np.int64)
    probabilities = out_of_fold(features, given, folds, penalty, seed)
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


def published(look: Path | None, errors: Path) -> dict[str, Any]:
    """CIFAR-10's test set with the cross-validated probabilities that others published."""
    probabilities = np.load(_file(errors, "cross_validated_predicted_probabilities/cifar10_test_set_pyx.npy"))
    names = _test_names(errors)
    labels = sorted({name.split("/")[1] for name in names})
    given = np.array([labels.index(name.split("/")[1]) for name in names], np.int64)
    found = Doubted(names, labels, given, probabilities, suspected(probabilities, given))
    if look:
        _write_images(look / "published", found, *_images())
    model = "a network of others, trained on the training images, then cross-validated on the test images"
    return {"model": model, **found.figures(), "shown_to_people": _beside(found, errors)}


def _file(errors: Path, name: str) -> io.BytesIO:
    shown = subprocess.run(
        ["git", "--git-dir", errors, "show", f"HEAD:{name}"], capture_output=True, check=True
    )
    return io.BytesIO(shown.stdout)


def _test_names(errors: Path) -> list[str]:
    """Our file of each test image in the original order: files are numbered by class, in that order."""
    seen: Counter[int] = Counter()
    names = []
    for label in np.load(_file(errors, "original_test_labels/cifar10_test_set_original_labels.npy")).tolist():
        names.append(f"test/{_CIFAR10[label]}/{seen[label]:04d}.jpg")
        seen[label] += 1
    return names


def _beside(found: Doubted, errors: Path) -> dict[str, dict[str, int]]:
    """How many of the test images that five people judged are suspected, by what most of the five chose: the
    given label, the one that cleanlab guessed, both or neither."""
    names = _test_names(errors)
    suspects = {found.names[row] for row in found.rows}
    told: dict[str, Counter[str]] = defaultdict(Counter)
    for one in json.load(_file(errors, "mturk/cifar10_mturk.json")):
        name = names[one["id"]]
        if name.split("/")[1] != one["given_original_label_name"]:
            raise ValueError(f"image {one['id']} is not {name}")
        told[_opinion(one["mturk"])].update(["images", *(["suspected"] if name in suspects else [])])
    return {kind: {"images": 0, "suspected": 0, **counts} for kind, counts in sorted(told.items())}


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
    reader.add_argument("parts", nargs="*", choices=["banking77", "cifar10", "published", "judged"])
    reader.add_argument("--look", type=Path)
    reader.add_argument("--errors", type=Path)
    asked = reader.parse_args()
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    work = {
        "banking77": lambda: banking77(asked.look),
        "cifar10": lambda: cifar10(asked.look, asked.errors),
        "published": lambda: published(asked.look, asked.errors),
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
