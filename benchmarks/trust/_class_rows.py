"""Rows of real classes as numbers, for models that train in seconds: TF-IDF of texts, pixels, spectra."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks._runs import ROOT

DATA = ROOT.parent / "shared" / "data"
CIFAR10_TRAIN, CIFAR10_TEST = 1000, 300  # of each class


@dataclass(frozen=True)
class RealRows:
    """Features [N, …] and classes [N] of training and test rows, and how a linear model is made of them."""

    train: Any
    names: np.ndarray
    test: Any
    truth: np.ndarray
    strength: float  # C of scikit-learn's LogisticRegression

    def answers(self, rows: np.ndarray, names: np.ndarray | None = None) -> np.ndarray:
        """What a logistic regression on these training rows says of the test rows [N]."""
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=self.strength, max_iter=200)
        model.fit(self.train[rows], (self.names if names is None else names)[rows])
        return np.asarray(model.predict(self.test))


def banking77() -> RealRows:
    import pandas as pd
    from sklearn.feature_extraction.text import TfidfVectorizer

    train, test = (pd.read_csv(DATA / "banking77" / f"{name}.csv") for name in ("train", "test"))
    words = TfidfVectorizer(sublinear_tf=True)
    features = words.fit_transform(train["text"]), words.transform(test["text"])
    names, truth = (one["category"].to_numpy(dtype=str) for one in (train, test))
    return RealRows(features[0], names, features[1], truth, 10.0)


def cifar10() -> RealRows:
    """1,000 and 300 images a class, by 100 principal components of their pixels."""
    from PIL import Image
    from sklearn.decomposition import PCA

    found: dict[str, tuple[list[np.ndarray], list[str]]] = {"train": ([], []), "test": ([], [])}
    counts: dict[tuple[str, str], int] = {}
    with tarfile.open(DATA / "cifar10.tar.xz") as files:
        for member in files:
            *_, split, name, file = ("", "", *member.name.split("/"))
            most = CIFAR10_TRAIN if split == "train" else CIFAR10_TEST
            if split not in found or not file.endswith((".jpg", ".jpeg")):
                continue
            counts[split, name] = counts.get((split, name), 0) + 1
            if counts[split, name] <= most:
                content = files.extractfile(member)
                assert content is not None
                found[split][0].append(np.asarray(Image.open(io.BytesIO(content.read())).convert("RGB")))
                found[split][1].append(name)
    pixels = {
        split: np.stack(images).reshape(len(images), -1) / 255.0 for split, (images, _) in found.items()
    }
    parts = PCA(100, whiten=True, random_state=0).fit(pixels["train"])
    train, test = (parts.transform(pixels[split]) for split in ("train", "test"))
    return RealRows(train, np.array(found["train"][1]), test, np.array(found["test"][1]), 0.1)


def fsdd() -> RealRows:
    """Spoken digits, by the spectra of 12 parts of a recording; every third one of a speaker tests."""
    from scipy.io import wavfile

    features, names, tests = [], [], []
    with tarfile.open(DATA / "fsdd.tar.xz") as files:
        for member in files:
            if not member.name.endswith(".wav"):
                continue
            digit, _, index = member.name.rpartition("/")[2].removesuffix(".wav").split("_")
            content = files.extractfile(member)
            assert content is not None
            _, wave = wavfile.read(io.BytesIO(content.read()))
            features.append(_spectra(wave.astype(float)))
            names.append(digit)
            tests.append(int(index) % 3 == 0)
    rows, all_names, is_test = np.stack(features), np.array(names), np.array(tests)
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    return RealRows(rows[~is_test], all_names[~is_test], rows[is_test], all_names[is_test], 0.01)


def _spectra(wave: np.ndarray) -> np.ndarray:
    wave = np.pad(wave, (0, max(0, 1024 - len(wave))))
    parts = np.array_split(wave, 12)
    spectra = [np.abs(np.fft.rfft(part, 256))[:96].reshape(24, 4).mean(axis=1) for part in parts]
    return np.log(np.concatenate(spectra) + 1.0)


ROWS = {"banking77": banking77, "cifar10": cifar10, "fsdd": fsdd}
