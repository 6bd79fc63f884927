"""`make compare`: registered versions and reports on the same rows, or what was stored of them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from retrainer.__main__ import main
from retrainer.formats.dataset import Dataset
from retrainer.formats.files import MANIFEST, hash_files
from retrainer.formats.row_keys import write_row_keys
from retrainer.metrics._classes import classes
from retrainer.predict import Predictor
from retrainer.registry.columns import aligned
from tests.champions import PARAMS, Project, files_of, in_a_copy, own_environment, without_serving_check
from tests.registered import image_dataset

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]
Capture = pytest.CaptureFixture[str]
TEST_ROWS = 12


def with_keys(dataset: Path, train: range) -> Path:
    """Says that the test rows 0..11 are `test`, and these `train`."""
    rows = {"train": train, "test": range(TEST_ROWS)}
    write_row_keys(dataset, {split: [n.to_bytes(8, "big") for n in some] for split, some in rows.items()})
    manifest = json.loads((dataset / MANIFEST).read_text())
    (dataset / MANIFEST).write_text(json.dumps(manifest | {"files": hash_files(dataset)}))
    return dataset


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Version 1 learned from four of today's test rows, version 2 from none."""
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        own_environment(patch, folder)
        without_serving_check(patch)
        (folder / "params.yaml").write_text(PARAMS + "compute: {device: cpu}\n")
        old = Project(folder, with_keys(image_dataset(folder / "old"), range(4)))
        old.register(0, "champion")
        made = Project(folder, with_keys(image_dataset(folder / "runs/net/dataset"), range(100, 112)))
        made.register(1, "champion")
        return made


@pytest.fixture
def project(base: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    in_a_copy(base, tmp_path, monkeypatch)
    return Project(tmp_path, tmp_path / "runs/net/dataset")


def correct(project: Project, seed: int) -> np.ndarray:
    test = Dataset(project.dataset).split("test")
    predictions = Predictor.load(project.folder / f"model-{seed}").predict(test)
    return classes(predictions, test).correct


def test_two_versions_on_the_same_rows(project: Project, capsys: Capture) -> None:
    a, b = correct(project, 0), correct(project, 1)
    assert main(["compare", "1", "2"]) == 0
    out = capsys.readouterr().out
    assert "\n12 test rows of runs/net/dataset\n" in out
    assert re.search(r"^training\.seed +0 +1$", out, re.M) and "settings are the same\n" in out
    assert re.search(r"^rows: train / validation / test +12 / 0 / 12 +12 / 0 / 12$", out, re.M)
    assert re.search(rf"^accuracy +{a.mean():.4f} \(0\.\d+–0\.\d+\)  {b.mean():.4f} \(", out, re.M)
    assert re.search(r"^rows it was trained on  4 +0$", out, re.M)
    better, worse = int((a & ~b).sum()), int((b & ~a).sum())
    assert better
    assert worse
    assert f"all rows: only version 1 was right on {better}, only version 2 on {worse}\n" in out
    better, worse = int((a & ~b)[4:].sum()), int((b & ~a)[4:].sum())
    fair = "the 8 rows that neither was trained on, nor on rows linked to them"
    assert f"{fair}: only version 1 was right on {better}, only version 2 on {worse}\n" in out
    assert re.search(r"^accuracy by class  rows  version 1  version 2\n[abc]  +4  ", out, re.M)
    for tag in ("verdict", "model_sha256", "dataset_sha256", "settings_sha256", "evaluation_run_id"):
        assert re.search(rf"^{tag} +\S+ +\S+$", out, re.M), tag
    assert "stored figures" not in out
    assert main(["compare", "2", "1"]) == 0
    back = capsys.readouterr().out
    assert f"{fair}: only version 2 was right on {worse}, only version 1 on {better}\n" in back


def test_they_are_compared_by_the_metric_of_the_gate(project: Project, capsys: Capture) -> None:
    (project.folder / "params.yaml").write_text(PARAMS + "compute: {device: cpu}\ngate: {metric: log_loss}\n")
    assert main(["compare", "1", "2"]) == 0
    out = capsys.readouterr().out
    found = re.search(r"^all rows: log loss is (\d\.\d+) of version 1, (\d\.\d+) of version 2$", out, re.M)
    assert found
    assert re.search(rf"^log_loss +{found[1]} \(.*{found[2]} \(", out, re.M)
    assert re.search(
        r"^  is version 1 better\? p = [01]\.\d+; is version 2\? p = .* \(bootstrap\)$", out, re.M
    )
    assert re.search(r"^log loss by class  rows ", out, re.M)


def test_without_rows_the_stored_figures_and_why(project: Project, capsys: Capture) -> None:
    shutil.rmtree(project.dataset)
    assert main(["compare", "1", "2"]) == 0
    out = capsys.readouterr().out
    assert "\nstored figures only, each of its own test rows: runs/net/dataset is not there (" in out
    assert re.search(r"^accuracy +\d\.\d+ \(\d\.\d+–\d\.\d+\) +\d\.\d+ \(", out, re.M)
    assert re.search(r"^gate\.value +0\.\d+ +0\.\d+$", out, re.M)
    assert re.search(r"^settings_sha256 ", out, re.M)


def test_rows_that_a_version_cannot_read(project: Project, capsys: Capture) -> None:
    import pyarrow as pa

    from retrainer.formats.dataset import write_dataset

    texts = pa.table({"text": ["x"], "labels": [["a"]], "origin": ["row 0"]})
    shutil.rmtree(project.dataset)
    write_dataset(project.dataset, {"train": texts, "test": texts})
    assert main(["compare", "1", "2"]) == 0
    out = capsys.readouterr().out
    assert ": version 1 cannot predict these rows: the input has no column 'image'" in out


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        (("1", "9"), "models:/net/9: there is no such version"),
        (("1", "1"), "1 is version 1, as 1 is: different ones are needed"),
        (("1", "2", "champion"), "champion is version 2, as 2 is: different ones are needed"),
        (("1", "one"), "one: needed is a version's number or alias, as make history shows them, a recipe"),
        (("1", ""), "an empty word: needed is a version's number or alias"),
        (("1",), "needed are two or more: make compare A=3 B=5"),
        (("1", "models:/net@gone"), "models:/net@gone: there is no such version"),
        (("1", "models:/net"), "models:/net: it should read models:/NAME@ALIAS or models:/NAME/VERSION"),
    ],
)
def test_a_wrong_question_is_answered_in_one_line(
    project: Project,  # noqa: ARG001
    capsys: Capture,
    numbers: tuple[str, str],
    reason: str,
) -> None:
    assert main(["compare", "--", *numbers]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"compare: {reason}")
    assert told.count("\n") == 1


def test_an_altered_version_or_dataset_is_not_compared(project: Project, capsys: Capture) -> None:
    shard = project.dataset / "test-00000.parquet"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert main(["compare", "1", "2"]) == 2
    assert "test-00000.parquet was altered" in capsys.readouterr().err
    shard.write_bytes(whole)
    (files_of("2") / "artifacts/model/history.json").write_text("[]")
    assert main(["compare", "1", "2"]) == 2
    told = capsys.readouterr().err
    assert "history.json was altered" in told
    assert told.count("\n") == 1


def test_three_of_them_each_beside_the_first(project: Project, capsys: Capture) -> None:
    """A version, an alias, and the report of a model that was never registered, on the same rows."""
    _, report = project.candidate(2)
    shutil.move(project.folder / "model-2", project.folder / "model")  # as a recipe's folder has it
    assert main(["compare", "1", "champion", report.name]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"^settings that differ +version 1  version 2  {report.name}$", out, re.M)
    assert re.search(r"^training\.seed +0 +1 +2$", out, re.M)
    rows = [line.split()[-1] for line in out.splitlines() if line.startswith("dataset_sha256")]
    assert rows and not re.search(r"^test rows, sha256 .*–", out, re.M)
    first = correct(project, 0)
    shutil.move(project.folder / "model", project.folder / "model-2")
    for seed, title in ((1, "version 2"), (2, report.name)):
        other = correct(project, seed)
        better, worse = int((first & ~other).sum()), int((other & ~first).sum())
        assert f"all rows: only version 1 was right on {better}, only {title} on {worse}\n" in out


def test_reports_of_one_test_set_need_no_model(
    project: Project, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is of a registered version, whose settings alone are fetched; the other's model is nowhere."""
    monkeypatch.setattr("retrainer.comparison.subjects.unaltered_model", lambda *_: pytest.fail("fetched"))
    reports = [project.folder / "model-1-report", project.candidate(3)[1]]
    first, other = correct(project, 1), correct(project, 3)
    (project.folder / "run.json").write_text(
        json.dumps({"settings": {"task": {"kind": "image_classification"}, "gate": {"alpha": 0.1}}})
    )
    for seed in (1, 3):
        shutil.rmtree(project.folder / f"model-{seed}")
    shutil.rmtree(project.dataset)
    assert main(["compare", *(report.name for report in reports)]) == 0
    out = capsys.readouterr().out
    a, b = f"{reports[0].name} (version 2)", reports[1].name
    better, worse = int((first & ~other).sum()), int((other & ~first).sum())
    assert "\n12 test rows, as the reports keep them\n" in out and better + worse
    assert f"all rows: only {a} was right on {better}, only {b} on {worse}\n" in out
    assert re.search(rf"^accuracy +{first.mean():.4f} \(.*{other.mean():.4f} \(", out, re.M)


def test_a_cell_cannot_steer_the_terminal() -> None:
    assert aligned([("a\x1b[2J", "b"), ("longer", "\nc")]) == ["a [2J   b", "longer  c"]
