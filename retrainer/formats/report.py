"""The report on disk: what evaluate found on the test rows, sealed.

    metrics.json          every figure and the gate's verdict (schema below)
    predictions.parquet   every test row: `origin`, `id` (where the data has it), the task's targets, and what
                          was predicted, by the columns that serving answers with; one that has a target's
                          name is called `predicted_…`
    sample.parquet        up to 32 test rows of several classes with their raw inputs, for the serving check:
                          `row` (its place in predictions.parquet), the task's inputs, targets and
                          predictions; a field that the source names otherwise says so (formats/columns.py)
    report.html           the same for people: self-contained, without a script
    profile.parquet       of the dataset, copied from it, for a later test of drift (formats/profile.py)
    model_card.md         the same in short, with the limits: the registered version's description
    manifest.json         kind, format version, sha256 per file

metrics.json:
    model_sha256, dataset_sha256, name, start, task {"kind", "multi_label"}, labels, rows, confidence
    settings    {section.key: value as text} of task, backbone and training: what the model was trained by,
                but for what is off or empty
    device      what the model predicted on: cpu or cuda
    headline    the gate's metric
    metrics     {name: {"value", "low", "high", "n"}}: low and high bound the confidence interval, n are rows
    about       {name: {"title", "unit", "higher_is_better"}} of each metric
    baselines   {name: {"title", "trivial", "note", "fitted_rows", "metrics", "difference", "better", "worse",
                "p_value"}}: the model against it by the gate's metric, on the same rows; above 0 it is
                better, and better and worse count the rows that one alone has right (null where rows are not
                right or wrong by that metric)
    no_baseline why there is no cheap baseline, else ""
    champion    null, or {"version", "model_sha256", "same", "compared", "note", "metrics"}, where it was
                compared the paired test as of a baseline, and where another tool made it champion
                "moved_from", the version that retrainer made it last
    anchor      null, or the best champion so far: {"version", "same": it is the champion or the judged model,
                and was not scored, …} and the rest as of the champion
    since       null without a champion, or what differs from it: the fields of retrainer/evaluation/since.py;
                absent in an older version's report
    data        {"rows": {split: n}, "dropped": {reason: n}, "checks": [what preprocess found, and the task],
                "max_length", "cut_rows"}: test rows of more tokens than max_length; null where there are none
                "figures": what a later month's data is compared with (DataFigures in gate/data_figures.py)
    slices      [{"by", "name", "rows", "value", "low", "high"}], by the gate's metric
    test_set    {"sha256", "sample": some keys of its rows, "uses": models of this name that half of its rows
                or more have judged, with this one (retrainer/uses_of_test_set.py),
                "champion": null or {"same", "new", "gone", "left_out", "saved_again"}: rows beside those it
                was tested on, those left out as it was trained on them or on rows linked to them, and of
                these the ones known by what they show or sound like alone; "learned": how many further
                rows are left out altogether, because the judged model has learned from them or from rows
                linked to them}
    privacy     {"model", "champion"}: null, or what a private training spent (formats/privacy.py)
    membership  the attack by the loss of single rows: {"score", "train_rows", "test_rows", "auc", "low",
                "high", "found_at_1_percent": the share of training rows told while 1% of the test rows are
                taken for some, "noteworthy", "note"}; figures are null where `note` says why
    need        how many more rows a cheap head needs: the fields of Need in retrainer/need/extrapolate.py,
                and "head", its title; or {"missing": why there is none}; absent in an older version's report
    cost        {"latency_ms": null unless the gate limits it, "model_mb"}
    training_cost  null where MLflow does not know it, or {"hours", "cpu_hours", "gpu_hours", "kwh",
                "metered_kwh": the part of it that was no estimate, "runs", "unfinished": of these, those that
                made no model, and by evaluation.cost "money" and "currency", "co2_kg"} (retrainer/cost.py)
    gate        {"verdict", "reasons", "champion": null | {"version", "model_sha256"}, …}: the fields of
                retrainer/gate/verdict.py's Verdict
    details     the task's own part (`Task.details`), of classification in retrainer/tasks/_class_details.py
"""

from __future__ import annotations

import json
from collections.abc import Container
from pathlib import Path
from typing import Any

from retrainer import __version__
from retrainer.errors import DataError
from retrainer.formats.files import MANIFEST, hash_files, read_manifest, write_json

KIND = "report"
# 2: figures by any metric, `details` of the task, predictions as they are served.
FORMAT_VERSION = 2
METRICS = "metrics.json"
PREDICTIONS = "predictions.parquet"
SAMPLE = "sample.parquet"
HTML = "report.html"
CARD = "model_card.md"
# Before the name of a predicted column where the rows have a column of that name.
PREDICTED = "predicted_"
# A matrix of more classes than this is one that nobody can read.
MOST_IN_MATRIX = 30


def predicted_column(name: str, others: Container[str]) -> str:
    """What a column of predictions is called beside `others`, the columns of the rows."""
    return f"{PREDICTED}{name}" if name in others else name


def confusion_matrix(confusion: dict[str, Any]) -> list[list[int]]:
    """The sparse counts of `details.confusion` as rows [true][predicted]."""
    size = len(confusion["labels"])
    counts = [[0] * size for _ in range(size)]
    for true, given, rows in confusion["cells"]:
        counts[true][given] = rows
    return counts


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
    """The content of metrics.json, every file's hash checked.

    Raises UserError when one is altered, or the report is of another format.
    """
    version = read_manifest(path, KIND, *range(1, FORMAT_VERSION + 1))["format_version"]
    if version != FORMAT_VERSION:
        raise DataError(
            f"{path} was written by an earlier version (report format {version}); run evaluate again"
        )
    content: dict[str, Any] = json.loads((path / METRICS).read_text(encoding="utf-8"))
    return content
