"""`make curve`: trains, extrapolates, writes `runs/RECIPE/curve` and says what came of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from retrainer import __version__
from retrainer.formats.files import MANIFEST, hash_files, whole_directory, write_json, write_text
from retrainer.need.extrapolate import need_of
from retrainer.need.scale import Scale
from retrainer.need.trainings import Trainings, parse_sizes
from retrainer.need.words import at_twice, more_rows, value
from retrainer.pages.learning_curve import learning_curve_chart
from retrainer.pages.page import document, escape, number_cell, quiet, section, table
from retrainer.settings import Backbone, Compute, Evaluation, Gate, Task, Training

KIND, FORMAT_VERSION = "learning_curve", 1


def draw_curve(
    sections: dict[str, Any], folder: Path, known: Path, sizes: str, tell: Callable[[str], None]
) -> dict[str, Any]:
    """`sections` are resolved; `folder` has the dataset and gets `curve`. Returns the content of curve.json:
    the fields of `Need`, the recipe's metric and the dataset."""
    from retrainer.gate.scores import scores_of
    from retrainer.models import reads_weights
    from retrainer.services import weights
    from retrainer.services.scratch import scratch_directory
    from retrainer.tasks import make_task
    from retrainer.training.compute import for_scoring, prepare
    from retrainer.training.inputs import Inputs, Settings

    task, backbone = Task.parse(sections["task"], "task"), Backbone.parse(sections["backbone"], "backbone")
    training, compute = (
        Training.parse(sections["training"], "training"),
        Compute.parse(sections["compute"], "compute"),
    )
    gate, evaluation = (
        Gate.parse(sections["gate"], "gate"),
        Evaluation.parse(sections["evaluation"], "evaluation"),
    )
    scores = scores_of(make_task(task), gate.metric)
    scale = Scale.of(scores.metrics[scores.gate_metric], scores.gate_metric)
    start = weights.fetch(backbone) if reads_weights(backbone, training) else None
    inputs = Inputs(folder / "dataset", Settings(task, backbone, training, compute), start)
    rows = int(inputs.data.manifest["rows"].get("train", 0))
    device = str(prepare(for_scoring(compute)))
    with scratch_directory() as scratch:
        trainings = Trainings(inputs, scores, parse_sizes(sizes, rows), device, known, tell)
        points = trainings.points(scratch)
    need = need_of(points, scale, evaluation.confidence, evaluation.seed)
    found = need.plain() | {
        "metric": scores.gate_metric,
        "title": scores.gate_title,
        "dataset_sha256": inputs.data.content_sha256,
        "test_rows": inputs.data.manifest["rows"]["test"],
        "confidence": evaluation.confidence,
        "versions": registered_points(str(sections["registry"]["name"]), scores.gate_metric),
    }
    write_curve(folder / "curve", found, folder.name)
    return found


def registered_points(name: str, metric: str) -> list[dict[str, Any]]:
    """What the versions of the name say of their training rows and of the metric; each was judged on the test
    rows of its own month, so they are shown and never fitted."""
    from retrainer.services import lookup
    from retrainer.services.readers import TRAIN_ROWS

    return [
        {"version": one.version, "rows": int(one.tags[TRAIN_ROWS]), "value": float(one.tags["gate.value"])}
        for one in lookup.usable_versions(name)
        if one.tags.get("gate.metric") == metric and {TRAIN_ROWS, "gate.value"} <= one.tags.keys()
    ]


def write_curve(out: Path, found: dict[str, Any], recipe: str) -> None:
    """curve.json, curve.html and the manifest that seals them; what an earlier call wrote is replaced."""
    with whole_directory(out) as aside:
        write_json(aside / "curve.json", found)
        write_text(aside / "curve.html", page(found, recipe))
        about = {"kind": KIND, "format_version": FORMAT_VERSION, "retrainer": __version__}
        write_json(aside / MANIFEST, about | {"files": hash_files(aside)})


def said(found: dict[str, Any]) -> list[str]:
    """Sentences for the terminal and the page."""
    today = found["points"][-1]
    return [
        f"{found['title']} on {found['test_rows']:,} test rows: {value(found, today['value'])} with"
        f" {today['rows']:,} training rows",
        more_rows(found),
        f"{at_twice(found)}, in {100 * found['confidence']:g} of 100 cases",
        *_versions(found),
    ]


def _versions(found: dict[str, Any]) -> list[str]:
    """The registered versions where they have learned from different numbers of rows."""
    versions = found["versions"]
    if len({one["rows"] for one in versions}) < 2:
        return []
    each = (f"{one['version']}: {value(found, one['value'])} with {one['rows']:,}" for one in versions)
    return [f"registered versions, each on the test rows of its month: {', '.join(each)}"]


def page(found: dict[str, Any], recipe: str) -> str:
    title = f"{recipe}: {found['title']} by training rows"
    rows = [
        number_cell(f"{one['rows']:,}")
        + number_cell(value(found, one["value"]))
        + number_cell(str(len(one["values"])))
        for one in found["points"]
    ]
    about = (
        "The recipe's own settings, trained on nested random parts of the training rows and scored on the"
        " same test rows. Each dot is one training, the line an inverse power law, the bar at its end the"
        " interval of one training on twice the rows."
    )
    said_here = "".join(f"<p>{escape(one)}.</p>" for one in said(found))
    chart = learning_curve_chart(found, title)
    shown = table([], ["training rows", found["title"], "trainings"], rows)
    return document(
        title,
        [f"<h1>{escape(title)}</h1>", section("How many more rows", said_here, chart, quiet(about), shown)],
    )
