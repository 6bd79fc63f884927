"""The report on disk: what evaluate found on the test rows, sealed.

    metrics.json          every figure and the gate's verdict (schema below)
    predictions.parquet   every test row: `origin`, `id` (where the data has it), `labels`, `decided` (names),
                          `correct`, `probabilities` (float32, in the order of metrics.json's `labels`)
    sample.parquet        up to 32 test rows of several classes with their raw inputs, for the serving check:
                          `row` (its place in predictions.parquet), the task's columns, and the same answers
    report.html           the same for people: self-contained, without a script
    profile.parquet       of the dataset, copied from it, for a later test of drift (formats/profile.py)
    model_card.md         the same in short, with the limits: the registered version's description
    manifest.json         kind, format version, sha256 per file

metrics.json:
    model_sha256, dataset_sha256, name, start, task {"kind", "multi_label"}, labels, rows, confidence
    metrics, per_class, confusion     see retrainer/evaluation/metrics.py
    baselines   {"majority" | "tfidf_linear" | "pixels_linear": {"title", "note", "fitted_rows", "metrics",
                "difference", "better", "worse", "p_value"}}: the model against it, on the same rows
    no_baseline why there is no cheap baseline, else ""
    champion    null, or {"version", "model_sha256", "same", "compared", "note", "metrics"}
    data        {"rows": {split: n}, "dropped": {reason: n}, "checks": [what preprocess found, and what the
                model doubts: label_errors and embedding_duplicates, with their "share" of the test rows],
                "max_length", "cut_rows"}: test rows of more tokens than max_length; null where there are none
    slices      [{"by", "value", "rows", "accuracy", "low", "high"}]
    calibration {"temperature", "error", "uncalibrated_error": at temperature 1,
                "bins": [{"rows", "confidence", "accuracy"}]}, those of the error, without empty ones
    test_set    {"sha256", "uses": models of this name that it has judged, with this one,
                "champion": null or {"same", "new", "gone", "left_out"}: rows beside those it was tested on,
                and those it was trained on}
    cost        {"latency_ms": null unless the gate limits it, "model_mb"}
    gate        {"verdict", "reasons", "champion": null | {"version", "model_sha256"}, …}: the fields of
                retrainer/registry/gate.py's Verdict
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from retrainer import __version__
from retrainer.formats.files import MANIFEST, hash_files, read_manifest, write_json

KIND = "report"
FORMAT_VERSION = 1
METRICS = "metrics.json"
PREDICTIONS = "predictions.parquet"
SAMPLE = "sample.parquet"
HTML = "report.html"
CARD = "model_card.md"


def seal_report(directory: Path) -> None:
    """Writes the manifest over all files of a report that is being made."""
    manifest = {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "retrainer": __version__,
        "files": hash_files(directory),
    }
    write_json(directory / MANIFEST, manifest)


def read_report(path: Path) -> dict[str, Any]:
    """The content of metrics.json, every file's hash checked. Raises UserError when one is altered."""
    read_manifest(path, KIND, FORMAT_VERSION)
    content: dict[str, Any] = json.loads((path / METRICS).read_text(encoding="utf-8"))
    return content
