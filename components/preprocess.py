"""Preprocessing: checks every row, drops what cannot be used (and says why), splits without leaks."""

from __future__ import annotations

from retrainer.contract import HtmlView, InDataset, Metadata, OutArtifact, OutDataset
from retrainer.settings import Checks, Split, Task


def preprocess(
    raw: InDataset,
    dataset: OutDataset,
    findings: OutArtifact,
    html: HtmlView,
    split: Split,
    checks: Checks,
    task: Task,
) -> Metadata:
    """Raw dataset → train, validation and test, and a report on every check. Pure.

    The report is an output of its own: how it looks must not train anything again.
    """
    from retrainer.data.preprocess import preprocess as check_and_split

    manifest = check_and_split(raw, dataset, split, checks, task, findings)
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_bytes((findings / "report.html").read_bytes())
    kept = ("rows", "dropped", "content_sha256")
    warned = [one["name"] for one in manifest["checks"] if one["count"]]
    told = {"dataset": {key: manifest[key] for key in kept}, "findings": {"warned": ", ".join(warned)}}
    return told | ({"html": {}} if html is not None else {})
