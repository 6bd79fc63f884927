"""Every bad input ends in one line that names it and the cure, and leaves what was there as it was.

The table stands in tests/bad_inputs/, one file a kind.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.command import main as step
from pipelines.__main__ import main as pipelines
from retrainer.__main__ import main as command
from retrainer.data.sources import _archives
from retrainer.errors import UserError
from retrainer.formats.dataset import Dataset
from retrainer.tasks._decode_image import decode_image
from tests.bad_inputs import archives, bricks, images, paths, recipes, tables, weights
from tests.bad_inputs.bricks import Case
from tests.conftest import ROOT
from tests.project import copied, environment, pipeline
from tests.registered import image_dataset, untrained_model

CASES: dict[str, Case] = (
    archives.ARCHIVES | images.IMAGES | tables.TABLES | paths.PATHS | recipes.SETTINGS | weights.WEIGHTS
)
TEXTS = {"kind": "text_classification"}
IMAGES = {"kind": "image_classification", "size": 8, "channels": 1}
COMPUTE = {"device": "cpu", "dtype": "float32", "threads": 1}


def everything_below(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def good_month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of steps that went well."""
    runs = tmp_path_factory.mktemp("good") / "runs"
    good = bricks.file("good.csv", tables.CSV)(runs.parent)
    assert ingest(good, runs / "raw") == 0
    assert preprocess(TEXTS, runs / "raw", runs / "dataset") == 0
    untrained_model(runs / "model", image_dataset(runs / "images"))
    return runs


@pytest.fixture
def project(tmp_path: Path, good_month: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's directory with the outputs of a good month, and nothing of this machine's environment."""
    shutil.copytree(good_month, tmp_path / "runs")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "params.yaml").write_text(
        f"registry: {{name: base}}\nsource: {good_month.parent / 'good.csv'}\nbackbone: {{family: mlp}}\n"
        f"training: {{strategy: scratch}}\ncompute: {json.dumps(COMPUTE)}\n"
    )
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("AWS_", "MLFLOW_TRACKING"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


def ingest(source: dict[str, object], raw: Path) -> int:
    return step(["ingest", "--source", json.dumps(source), "--raw", str(raw)])


def preprocess(task: dict[str, object], raw: Path, dataset: Path, **checks: str) -> int:
    words = ["preprocess", "--raw", str(raw), "--dataset", str(dataset), "--task", json.dumps(task)]
    words += ["--checks", json.dumps(checks)]
    words += ["--findings", str(dataset.with_name("findings"))]
    return step(words)


def train(settings: dict[str, object], project: Path) -> int:
    words = ["train", "--dataset", str(project / "runs/images"), "--model", str(project / "runs/model")]
    for section, values in (settings | {"compute": COMPUTE}).items():
        words += [f"--{section}", json.dumps(values)]
    return step(words)


def run(case: Case, folder: Path, project: Path) -> int:
    """The case's command, on an input that is made in `folder`."""
    made = case.make(folder)
    if case.door == "resolve":
        (project / "recipes/bad.yaml").write_bytes(made if isinstance(made, bytes) else made.encode())
        return pipelines(["resolve", "--recipe", "bad"])
    if case.door == "train":
        return train(json.loads(made), project)
    if case.door == "ingest":
        return ingest(made, project / "runs/raw")
    assert ingest(made, folder / "raw") == 0
    of_images = "image" in Dataset(folder / "raw").manifest["columns"]
    return preprocess(IMAGES if of_images else TEXTS, folder / "raw", project / "runs/dataset")


@pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*")
@pytest.mark.parametrize("name", CASES)
def test_a_bad_input_is_told_in_one_line_and_changes_nothing(
    name: str,
    project: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    case = CASES[name]
    if name == "a folder that may not be read" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    for cap, most in case.caps.items():
        monkeypatch.setattr(_archives, cap, most)
    before = everything_below(project / "runs")
    status = run(case, tmp_path_factory.mktemp("input"), project)
    said = capfd.readouterr().err
    assert status == 2, said
    assert said.count("\n") == 1 and re.search(case.says, said), said
    assert everything_below(project / "runs") == before


@pytest.mark.parametrize("name", weights.MODELS)
def test_a_spoiled_model_is_told_in_one_line(
    name: str, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil, says = weights.MODELS[name]
    spoil(project / "runs/model")
    before = everything_below(project / "runs")
    assert command(["check-step", str(project / "runs/model")]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and re.search(says, said), said
    assert everything_below(project / "runs") == before


@pytest.mark.parametrize("name", tables.FINE)
def test_what_looks_odd_and_is_fine_comes_in(name: str, tmp_path: Path) -> None:
    make, rows = tables.FINE[name]
    assert ingest(make(tmp_path), tmp_path / "raw") == 0
    raw = Dataset(tmp_path / "raw")
    assert raw.manifest["rows"] == {"all": rows}
    assert len(set(raw.split("all")["origin"].to_pylist())) == rows


def test_names_that_are_utf8_without_saying_so_are_read_as_meant(tmp_path: Path) -> None:
    make, _ = tables.FINE["zip: UTF-8 names without the mark"]
    assert ingest(make(tmp_path), tmp_path / "raw") == 0
    assert Dataset(tmp_path / "raw").labels == ("café",)


def test_images_that_cannot_be_used_are_left_out_by_name_and_odd_ones_are_used(tmp_path: Path) -> None:
    bad = {f"cat/{name}": content for name, (content, _) in images.LEFT_OUT.items()}
    odd = {f"dog/{name}": content for name, content in images.USED.items()}
    source = bricks.image_folder(tmp_path, bricks.photos() | bad | odd)
    assert ingest(source, tmp_path / "raw") == 0
    assert preprocess(IMAGES, tmp_path / "raw", tmp_path / "dataset", broken="warn", empty="warn") == 0
    dropped = pq.read_table(tmp_path / "dataset/dropped.parquet").to_pylist()
    reasons = {row["origin"].removeprefix("photos/cat/"): row["reason"] for row in dropped}
    assert reasons.keys() == images.LEFT_OUT.keys()
    for name, (_, reason) in images.LEFT_OUT.items():
        assert re.fullmatch(reason, reasons[name]), name
    for name, content in images.USED.items():
        assert decode_image(content, (8, 8), 3, name).shape == (3, 8, 8)


def test_a_photo_is_turned_as_its_note_says() -> None:
    turned = decode_image(images.USED["turned.jpg"], (30, 20), 3, "turned")
    assert turned.shape == (3, 30, 20)
    upright = np.rot90(images.SLOPE, -1).transpose(2, 0, 1)
    assert np.abs(turned.astype(int) - upright).max() < 10


def test_labels_that_differ_in_case_only_stop_the_run_or_are_warned_of(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [row | {"label": ["Yes", "yes"][number % 2]} for number, row in enumerate(bricks.table())]
    source = bricks.file("a.csv", bricks.csv(rows))(tmp_path)
    assert ingest(source, tmp_path / "raw") == 0
    assert preprocess(TEXTS, tmp_path / "raw", tmp_path / "dataset") == 2
    assert "(Yes = yes): 50%, and more than 0.1% stops a run; " in capfd.readouterr().err
    assert preprocess(TEXTS, tmp_path / "raw", tmp_path / "dataset", label_spelling="warn") == 0
    manifest = Dataset(tmp_path / "dataset").manifest
    assert re.search("Yes(, | = )yes", str(manifest.get("checks") or manifest["warnings"]))


def test_a_lying_archive_costs_no_memory(tmp_path: Path) -> None:
    """It claims 4 bytes for a member of 200 MB, which must never be unpacked."""
    path = bricks.written(tmp_path / "a.zip", archives.lying_zip())
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="not a whole archive"):
            list(_archives.members(path))
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_a_served_image_starts_no_other_program() -> None:
    """Pillow hands PostScript to another program; what a model is asked about comes from anyone."""
    with pytest.raises(UserError, match="asked: the image cannot be decoded"):
        decode_image(images.LEFT_OUT["page.eps"][0], (8, 8), 3, "asked")


@pytest.mark.parametrize(
    ("bad", "step_", "says"),
    [
        ("zip", "ingest", r"ingest: a\.zip is not a whole archive .*; pack or copy it again"),
        ("one class", "preprocess", r"preprocess: .*'across'.*check source.label"),
        ("settings", "resolve", r"pipeline: recipes/tiny\.yaml: not valid YAML in line 2: 'source' stands"),
    ],
)
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_bad_month_leaves_the_champion_and_every_output(
    finished: Path, bad: str, step_: str, says: str
) -> None:
    """By `make pipeline`'s own command: DVC removes a stage's outputs before it runs it."""
    # What ingest did before preprocess failed is well, and new.
    new = ("tiny/raw/",) if step_ == "preprocess" else ()
    before = kept_of(finished, new)
    recipe = finished / "recipes/tiny.yaml"
    settings = recipe.read_text()
    if bad == "zip":
        bricks.written(finished / "data/a.zip", bricks.zip_of(archives.SOUND)[:-30])
        printed = pipeline(finished, "source.path=data/a.zip", status=1)
    elif bad == "one class":
        printed = pipeline(finished, "source.classes=[across]", status=1)
    else:
        recipe.write_text("source: data/stripes\nsource: data/stripes\n" + settings)
        printed = pipeline(finished, status=2)
    recipe.write_text(settings)
    assert len([line for line in printed.splitlines() if re.search(says, line)]) == 1, printed
    assert "Traceback" not in printed
    assert step_ == "resolve" or f"stopped at {step_}" in printed
    assert kept_of(finished, new) == before
    assert before["champion"] == "1"


def kept_of(project: Path, new: tuple[str, ...]) -> dict[str, object]:
    """All outputs but those below `new`, the champion, and with nothing new DVC's record."""
    outputs = everything_below(project / "runs")
    with sqlite3.connect(project / "mlflow.db") as database:
        query = "SELECT version FROM registered_model_aliases WHERE name = 'tiny' AND alias = 'champion'"
        (champion,) = database.execute(query).fetchone()
    return {
        "outputs": {name: data for name, data in outputs.items() if not name.startswith(new or "\0")},
        "champion": str(champion),
        "dvc.lock": None if new else (project / "dvc.lock").read_bytes(),
    }


@pytest.fixture
def finished(finished_project: Path, tmp_path: Path) -> Path:
    """A project whose pipeline has made a champion."""
    return copied(finished_project, tmp_path / "finished")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("resolve", "--recipe", "bad"), r"resolve: recipes/bad\.yaml: more than 20 levels deep in line 1"),
        (("pipeline", "--recipe", "bad"), r"pipeline: recipes/bad\.yaml: more than 20 levels deep in line 1"),
        (("pipeline", "--set", "source.path=no.csv"), r"pipeline: source\.path: there is no file no\.csv"),
        (("smoke", "--set", "training.epochs={a: 1, a: 2}"), r"smoke: SET=.*'a' stands twice"),
    ],
)
def test_make_says_so_too(project: Path, words: tuple[str, ...], says: str) -> None:
    (project / "recipes/bad.yaml").write_text("training: " + "[" * 50_000)
    command = [sys.executable, "-m", "pipelines", *words]
    where = environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=project, env=where, capture_output=True, text=True, timeout=60)
    lines = [
        line for line in done.stderr.splitlines() if not line.startswith("recipe: base, from params.yaml")
    ]
    assert done.returncode == 2 and len(lines) == 1, done.stderr
    assert re.search(says, lines[0]), done.stderr
