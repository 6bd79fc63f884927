"""`make search`: the nearest rows of a dataset, how good that is, and the page that shows them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from retrainer.errors import DataError, ModelError, SettingError
from retrainer.formats.dataset import write_dataset
from retrainer.predict import Predictor
from retrainer.search import page
from retrainer.search.command import Request, parse_request, prepared
from retrainer.search.index import index_of, require_searchable, rows_of
from retrainer.search.measure import recall_at, said
from retrainer.settings import Task
from retrainer.tasks import make_task
from tests.champions import own_environment
from tests.conftest import ROOT
from tests.predicting import text_model
from tests.stripes import KINDS, made, picture

NASTY = "<script>alert(1)</script> *b* :smile: $x$"
PARAMS = """
registry: {name: stripes}
source: {path: data}
task: {kind: image_classification, size: 8, channels: 1}
backbone: {family: mlp}
compute: {device: cpu, dtype: float32, threads: 1}
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return made(tmp_path_factory.mktemp("three"))


def test_recall_is_that_of_a_plain_search_and_chance_that_of_drawing() -> None:
    draws = np.random.default_rng(0)
    searched, queries = (
        draws.normal(size=(60, 5)).astype(np.float32),
        draws.normal(size=(40, 5)).astype(np.float32),
    )
    theirs, own = ([[str(n)] for n in draws.integers(0, 4, count)] for count in (60, 40))
    own[0] = []  # of no class: it does not count
    figures = recall_at(queries, own, searched, theirs)
    middle = searched.mean(0)
    units = [
        (one - middle) / np.linalg.norm(one - middle, axis=1, keepdims=True) for one in (queries, searched)
    ]
    order = np.argsort(-(units[0] @ units[1].T), axis=1)
    for figure in figures:
        k = figure["k"]
        hits = [any(theirs[place] == own[row] for place in order[row, :k]) for row in range(1, 40)]
        assert figure["value"] == pytest.approx(np.mean(hits), abs=1e-6) and figure["n"] == 39
        shares = [np.mean([one == own[row] for one in theirs]) for row in range(1, 40)]
        assert figure["chance"] == pytest.approx(np.mean(1 - (1 - np.array(shares)) ** k), abs=1e-6)
    assert [figure["k"] for figure in figures] == [1, 5, 10] and said(figures)[0].startswith("recall@1 ")
    assert recall_at(queries[:1], [[]], searched, theirs) == []


def test_a_row_is_nearest_to_itself_and_held_out_rows_measure_the_search(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    predictor = Predictor.load(pair[1])
    table = rows_of(pair[0], predictor)
    index = index_of(table, predictor)
    assert len(table) == 165 and set(table["split"].to_pylist()) == {"train", "validation", "test"}
    (first, cosine), *_ = index.nearest(index.features[17], 3)
    assert first == 17 and cosine == pytest.approx(1.0, abs=1e-5)
    assert len(index.nearest(index.features[17], 1000)) == 165
    with pytest.raises(DataError, match="has no column 'text', which this model is of"):
        rows_of(pair[0], Predictor.load(text_model(tmp_path)))
    with pytest.raises(DataError, match="the dataset is another"):  # a pipeline has run meanwhile
        index_of(table.slice(1), predictor, index.features)
    (best, *_) = index.recall
    assert best["n"] == 60 and best["value"] > 0.8 > best["chance"] > 0.2


def test_what_is_to_be_searched_is_written_for_the_page(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_environment(monkeypatch, tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "scratch").mkdir()
    with pytest.raises(ModelError, match=r"there is no .*runs/stripes/dataset to search; run make pipeline"):
        prepared(Request("", model=pair[1]), tmp_path / "scratch")
    (tmp_path / "runs/stripes").mkdir(parents=True)
    (tmp_path / "runs/stripes/dataset").symlink_to(pair[0])
    told, lines = prepared(Request("", model=pair[1]), tmp_path / "scratch")
    about = json.loads(told.read_text())
    assert about["title"] == "stripes: search" and [one["k"] for one in about["recall"]] == [1, 5, 10]
    assert np.load(about["features"]).shape[0] == 165 and "rows          165" in lines
    features = page.query_features(
        Predictor.load(pair[1]), "image", "image", picture(KINDS[0], np.random.default_rng(1))["bytes"]
    )
    assert features.shape == (16,)


@pytest.fixture
def run_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    from streamlit.testing.v1 import AppTest

    model = text_model(tmp_path)
    texts = ["down down", "up up calm", NASTY]
    columns = {
        "text": texts,
        "labels": [["down"], ["up"], ["calm"]],
        "origin": ["/secret/folder/a:row 1", "b", "c"],
    }
    schema = pa.schema([("text", pa.string()), ("labels", pa.list_(pa.string())), ("origin", pa.string())])
    write_dataset(tmp_path / "rows", {"train": pa.table(columns, schema)})
    predictor = Predictor.load(model)
    index = index_of(rows_of(tmp_path / "rows", predictor), predictor)
    np.save(tmp_path / "features.npy", index.features)
    about = {
        "title": NASTY,
        "by": NASTY,
        "recall": [],
        "model": str(model),
        "dataset": str(tmp_path / "rows"),
    }
    (tmp_path / "told.json").write_text(json.dumps(about | {"features": str(tmp_path / "features.npy")}))

    def run() -> Any:
        monkeypatch.setattr(sys, "argv", ["page.py", str(tmp_path / "told.json")])
        return AppTest.from_file(ROOT / "retrainer/search/page.py", default_timeout=60).run()

    return run


@pytest.mark.slow  # Streamlit, in its own words
def test_the_page_shows_the_nearest_rows_and_nothing_of_them_is_markup(run_page: Callable[[], Any]) -> None:
    shown = run_page()
    assert not shown.exception and not shown.error
    shown.text_area[0].set_value("up up calm").run()
    assert not shown.exception
    texts = [one.value for one in shown.text]
    assert "up up calm" in texts and texts.index("up up calm") < texts.index(NASTY)
    assert any(text.startswith("up\nb (train)\ncosine 1.000") for text in texts)
    assert not [text for text in texts if "secret" in text]
    html = [one.proto.body for one in shown.get("html")]
    assert html and not [one for one in html if "<script" in one]
    assert not [one for one in shown.markdown if "alert" in one.value]


def test_tasks_without_features_and_ports_that_are_none_are_refused() -> None:
    class Model:
        task = make_task(Task(kind="object_detection"))

    with pytest.raises(SettingError, match="make search compares one vector of features a row"):
        require_searchable(Model)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="PORT=x: needed is a number"):
        parse_request("", "x", None)
