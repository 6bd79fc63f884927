"""Preprocessing: checks every row, drops what cannot be used (and says why), splits without leaks."""

from __future__ import annotations

from retrainer.contract import HtmlView, InDataset, Metadata, OutDataset
from retrainer.settings import Checks, Split, Task


def preprocess(
    raw: InDataset,
    dataset: OutDataset,
    html: HtmlView,
    split: Split,
    checks: Checks,
    task: Task,
) -> Metadata:
    """Raw dataset → train, validation and test, with a report on every check. Pure."""
    from retrainer.data.preprocess import preprocess as check_and_split

    manifest = check_and_split(raw, dataset, split, checks, task)
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_bytes((dataset / "report.html").read_bytes())
    kept = ("rows", "dropped", "content_sha256")
    told = {"dataset": {key: manifest[key] for key in kept}}
    return told | ({"html": {}} if html is not None else {})
