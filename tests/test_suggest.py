"""`make suggest`: which unlabelled rows to label first."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from retrainer.__main__ import main
from retrainer.data.fingerprint import source_module
from retrainer.data.pictures import picture_hashes
from retrainer.data.splits import content_keys
from retrainer.errors import DataError, ModelError, SettingError, UserError
from retrainer.formats.dataset import write_dataset
from retrainer.formats.files import hash_files
from retrainer.formats.row_keys import RowKeys, short, write_row_keys
from retrainer.predict import Predictor
from retrainer.settings import Checks, Source, Task
from retrainer.suggest import command
from retrainer.suggest.choose import badge, margins
from retrainer.suggest.command import Request, parse_rows, suggest
from retrainer.suggest.known import known_rows, without_near
from retrainer.suggest.pool import KNOWN, NEAR, TWICE, Pool, read_pool, unlabelled_source
from retrainer.tasks import make_task
from tests.champions import own_environment
from tests.stripes import KINDS, made, picture, table

PARAMS = """
registry: {name: stripes}
source: {path: data}
task: {kind: image_classification, size: 8, channels: 1}
backbone: {family: mlp}
compute: {device: cpu, dtype: float32, threads: 1}
"""
NO_ROWS = RowKeys(np.zeros(0, np.uint64))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return made(tmp_path_factory.mktemp("three"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty images without labels in a folder `new`, one of them twice, one broken, and a note."""
    own_environment(monkeypatch, tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "new").mkdir()
    draw = np.random.default_rng(9)
    for number in range(40):
        (tmp_path / "new" / f"{number:02}.png").write_bytes(picture(KINDS[number % 3], draw)["bytes"])
    (tmp_path / "new" / "again.png").write_bytes((tmp_path / "new" / "00.png").read_bytes())
    (tmp_path / "new" / "broken.png").write_bytes(b"\x89PNG no more")
    (tmp_path / "new" / "note.txt").write_text("a note")
    return tmp_path


def listed(folder: Path) -> list[dict[str, str]]:
    with (folder / "runs/stripes/suggestions/suggestions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_list_names_rows_reasons_and_predictions(
    project: Path, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["suggest", "--input", "new", "--rows", "10", "--model", str(pair[1])]) == 0
    said = capsys.readouterr().out
    assert "1 the same as a row above" in said and "1 not an image (the first: new/broken.png)" in said
    assert "10 of 40 rows" in said and "suggestions.csv" in said and "replaced" not in said
    rows = listed(project)
    assert [row["rank"] for row in rows] == [str(n) for n in range(1, 11)]
    assert len({row["origin"] for row in rows}) == 10
    assert all(row["prediction"] in KINDS and 0 <= float(row["score"]) <= 1 and row["reason"] for row in rows)
    lines = (project / "runs/stripes/suggestions/suggestions.jsonl").read_text().splitlines()
    assert [json.loads(line)["origin"] for line in lines] == [row["origin"] for row in rows]
    manifest = json.loads((project / "runs/stripes/suggestions/manifest.json").read_text())
    assert manifest["left_out"]["not an image"] == 1 and manifest["candidates"] == 40
    assert manifest["files"] == hash_files(project / "runs/stripes/suggestions")


def test_the_same_input_gives_the_same_list_and_replacing_it_is_told(
    project: Path, pair: tuple[Path, Path]
) -> None:
    request = Request("", "new", 10, pair[1])
    suggest(request)
    first = listed(project)
    said = suggest(request)
    assert listed(project) == first
    assert any(line.startswith("replaced") and "10 rows of new" in line for line in said)


def test_rows_that_the_model_knows_are_left_out(project: Path, pair: tuple[Path, Path]) -> None:
    predictor = Predictor.load(pair[1])
    source = unlabelled_source(Source(path="data"), "new", predictor)
    everything = read_pool(source, predictor, NO_ROWS)
    assert len(everything.features) == 40 and TWICE in everything.left_out
    images = pa.table({"image": table(KINDS, 3, 0)["image"]})
    known = pa.array(
        [{"bytes": (project / "new" / f"{n:02}.png").read_bytes(), "path": None} for n in (3, 4)]
    )
    images = pa.table({"image": known.cast(images["image"].type)})
    keys = short(content_keys(images, ["image"]))
    told = RowKeys(keys, {"image": keys}, picture_hashes(images["image"]))
    fewer = read_pool(source, predictor, told)
    assert fewer.left_out[KNOWN] == (2, "new/03.png") and len(fewer.features) == 38


def test_the_network_reads_each_row_once(project: Path, pair: tuple[Path, Path]) -> None:
    predictor = Predictor.load(pair[1])
    passes: list[int] = []
    predictor.network.body.register_forward_hook(lambda *_: passes.append(1))
    source = unlabelled_source(Source(path="data"), str(project / "new"), predictor)
    pool = read_pool(source, predictor, NO_ROWS)
    assert len(passes) == 1
    rows = table(KINDS, 70, 3)
    predictions, features = predictor.predict_and_features(rows)
    assert predictions.equals(predictor.predict(rows))
    np.testing.assert_array_equal(features, predictor.features(rows))
    assert pool.features.shape == (40, features.shape[1]) and not predictor.network.head._forward_pre_hooks


def test_the_model_directorys_own_keys_are_known(tmp_path: Path) -> None:
    write_row_keys(tmp_path, {"train": [b"12345678"], "test": [b"abcdefgh"]})
    assert len(known_rows(tmp_path, tmp_path / "none").key) == 2


def test_texts_of_the_dataset_and_nearly_equal_ones_are_left_out(tmp_path: Path) -> None:
    long = "my card has not arrived yet although I ordered it more than three weeks ago from your shop"
    rows = pa.table({"text": [long, "another question"], "labels": [["a"], ["b"]], "origin": ["1", "2"]})
    write_dataset(tmp_path / "dataset", {"train": rows, "test": rows.slice(0, 0)})
    shown = pa.table({"origin": ["x", "y"], "text": [long + " indeed", "what is the exchange rate"]})
    pool = Pool(shown, np.zeros((2, 3), np.float32), np.full((2, 2), 0.5, np.float32), {})
    kept = without_near(pool, tmp_path / "dataset", Checks())
    assert kept.shown["origin"].to_pylist() == ["y"] and kept.left_out == {NEAR: (1, "x")}
    assert without_near(pool, tmp_path / "none", Checks()) is pool


def test_texts_are_read_without_a_label_column(tmp_path: Path) -> None:
    class Model:
        task = make_task(Task(kind="text_classification"))

    (tmp_path / "new.csv").write_text("id,body\n7,hello\n8,\n")
    source = unlabelled_source(Source(path="old.csv", text="body"), str(tmp_path / "new.csv"), Model)  # type: ignore[arg-type]
    (read,) = source_module(source).read(source)
    assert read["text"].to_pylist() == ["hello", ""] and read["id"].to_pylist() == ["7", "8"]


@pytest.mark.parametrize("rows", ["0", "-1", "ten", "1e3", "", "1000000", "²"])
def test_rows_that_are_no_number_are_refused(rows: str) -> None:
    with pytest.raises(SettingError, match="ROWS"):
        parse_rows(rows)


def test_what_cannot_be_done_is_said(project: Path, pair: tuple[Path, Path]) -> None:
    with pytest.raises(SettingError, match="INPUT is empty"):
        suggest(Request("", "", 10, pair[1]))
    with pytest.raises(SettingError, match="INPUT=nowhere does not exist"):
        suggest(Request("", "nowhere", 10, pair[1]))
    with pytest.raises(UserError, match="model"):
        suggest(Request("", "new", 10, project / "new"))
    (project / "empty").mkdir()
    (project / "empty" / "x.png").write_bytes(b"")
    with pytest.raises(DataError, match="no row is left to label"):
        suggest(Request("", "empty", 10, pair[1]))


def test_without_a_champion_the_latest_model_is_asked(project: Path, pair: tuple[Path, Path]) -> None:
    with pytest.raises(ModelError, match="no champion of stripes"):
        suggest(Request("", "new", 5))
    (project / "runs/stripes").mkdir(parents=True)
    (project / "runs/stripes/model").symlink_to(pair[1])
    assert "the latest model" in suggest(Request("", "new", 5))[0]


def test_a_task_without_classes_is_refused() -> None:
    class Model:
        task = make_task(Task(kind="text_regression"))

    with pytest.raises(SettingError, match="with classes"):
        command._require_classes(Model)  # type: ignore[arg-type]


def test_margins_are_those_of_the_two_likeliest() -> None:
    told = np.array([[0.5, 0.4, 0.1], [0.2, 0.7, 0.1]])
    np.testing.assert_allclose(margins(told, False), [0.1, 0.5])
    np.testing.assert_allclose(margins(told, True), [0.0, 0.4])


def test_badge_is_k_means_pp_on_the_whole_gradients() -> None:
    """Beside the same draws on gradients that are written out."""
    draw = np.random.default_rng(0)
    features = draw.normal(size=(80, 5)).astype(np.float32)
    told = draw.dirichlet(np.ones(4), 80).astype(np.float32)
    errors = told - np.eye(4)[told.argmax(axis=1)]
    gradients = (errors[:, :, None] * features[:, None]).reshape(80, -1)
    random = np.random.default_rng(5)
    chosen = [int((gradients**2).sum(axis=1).argmax())]
    while len(chosen) < 12:
        distances = ((gradients[:, None] - gradients[chosen][None]) ** 2).sum(axis=2).min(axis=1)
        distances[chosen] = 0
        at = np.searchsorted(distances.cumsum(), random.random() * distances.sum(), side="right")
        chosen.append(int(at))
    assert badge(features, told, 12, False, 5).tolist() == chosen


def test_badge_gives_every_row_once_also_of_equal_ones() -> None:
    same = np.ones((6, 3), np.float32)
    sure = np.tile(np.array([1.0, 0.0], np.float32), (6, 1))
    assert sorted(badge(same, sure, 10, False, 0).tolist()) == list(range(6))
