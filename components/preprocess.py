"""Preprocessing: checks every row, drops what cannot be used (and says why), splits without leaks."""

from __future__ import annotations

from retrainer.contract import InDataset, Metadata, OutDataset
from retrainer.settings import Split, Task


def preprocess(raw: InDataset, dataset: OutDataset, split: Split, task: Task) -> Metadata:
    """Raw dataset → train, validation and test. Pure."""
    from retrainer.data.preprocess import preprocess as check_and_split

    manifest = check_and_split(raw, dataset, split, task)
    kept = ("rows", "dropped", "content_sha256")
    return {"dataset": {key: manifest[key] for key in kept}}
