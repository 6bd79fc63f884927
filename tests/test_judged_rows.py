"""Which test rows judge: those that a model has met before are known by their keys, and left out."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrainer.errors import DataError, UserError
from retrainer.evaluation.opponents import Opponent, champion_figures, on_unseen_rows
from retrainer.evaluation.summary import closing_table
from retrainer.formats.dataset import write_dataset
from retrainer.formats.files import hash_files, write_json
from retrainer.formats.row_keys import FILE as ROW_KEYS
from retrainer.formats.row_keys import read_row_keys, write_row_keys
from retrainer.gate.evidence import Champion
from retrainer.gate.scores import scores_of
from retrainer.overlap import JudgedRows, Today, digest_of_test
from retrainer.predict import Predictor
from retrainer.settings import Backbone, Task, Training
from retrainer.tasks import text_classification
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import train_model
from retrainer.uses_of_test_set import Judgement
from tests.predictions import answered
from tests.stripes import COMPUTE, KINDS, QUICK, SIDE, SIZES, judged, table


def keyed(folder: Path, splits: dict[str, pa.Table]) -> Path:
    """A dataset whose row keys are its rows' ids, as preprocess writes them beside the rows."""
    data = folder / "dataset"
    write_dataset(data, splits)
    write_row_keys(data, {name: list(map(key_of, rows["id"].to_pylist())) for name, rows in splits.items()})
    manifest = json.loads((data / "manifest.json").read_text())
    write_json(data / "manifest.json", manifest | {"files": hash_files(data)})
    return data


def key_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def trained_on(data: Path, epochs: int = 6, out: Path | None = None, start: Path | None = None) -> Path:
    model = out or data.parent / "model"
    task = Task(kind="image_classification", size=SIDE, channels=1)
    backbone = Backbone(family="mlp", hidden=[16])
    strategy = "full" if start else "scratch"
    training = Training(strategy=strategy, epochs=epochs, learning_rate=1e-2, batch_size=16)
    train_model(Inputs(data, Settings(task, backbone, training, COMPUTE), start), model)
    return model


@pytest.fixture(scope="module")
def months(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[Path, Path], Path]:
    """This month's dataset and model; and last month's model, which was trained on half of today's test rows,
    and tested on a third of them and on ten rows that are gone."""
    today = {name: table(KINDS, count, seed) for seed, (name, count) in enumerate(SIZES.items())}
    test = today["test"]
    before = {
        "train": pa.concat_tables([table(KINDS, 30, 10), test.slice(0, 20)]),
        "validation": test.slice(20, 10),
        "test": pa.concat_tables([test.slice(30, 20), table(KINDS, 10, 11)]),
    }
    data = keyed(tmp_path_factory.mktemp("today"), today)
    return (data, trained_on(data)), trained_on(keyed(tmp_path_factory.mktemp("before"), before))


def test_a_model_carries_the_row_keys_of_its_dataset(
    months: tuple[tuple[Path, Path], Path], three: tuple[Path, Path], tmp_path: Path
) -> None:
    (data, model), _ = months
    assert (model / ROW_KEYS).read_bytes() == (data / ROW_KEYS).read_bytes()
    assert ROW_KEYS in json.loads((model / "manifest.json").read_text())["files"]
    assert not (three[1] / ROW_KEYS).exists()  # a dataset of an older version has none
    altered = shutil.copytree(model, tmp_path / "altered")
    write_row_keys(altered, {"train": [key_of("another")]})
    with pytest.raises(UserError, match=r"row_keys\.parquet was altered"):
        Predictor.load(altered)


def test_rows_that_the_champion_learned_from_are_left_out(
    months: tuple[tuple[Path, Path], Path], tmp_path: Path
) -> None:
    pair, before = months
    told = judged(pair, tmp_path / "out", before)
    assert told["test_set"]["champion"] == {
        "same": 20,
        "new": 40,
        "gone": 10,
        "left_out": 30,
        "saved_again": 0,
    }
    champion = told["champion"]
    assert champion["metrics"]["accuracy"]["n"] == 30
    assert champion["note"] == "30 rows are left out: it was trained on them or on rows linked to them"
    test = pq.read_table(pair[0] / "test-00000.parquet")
    truth = np.array([row[0] for row in test["labels"].to_pylist()])
    right = [
        np.array(KINDS)[Predictor.load(one).probabilities(test).argmax(axis=1)] == truth
        for one in (pair[1], before)
    ]
    assert champion["difference"] == pytest.approx((right[0][30:].mean() - right[1][30:].mean()), abs=1e-6)
    page = " ".join((tmp_path / "out" / "report.html").read_text().split())
    assert "20 are the same as when the champion was judged, 40 are new, and 10 are gone since" in page
    assert (
        "30 rows are left out of the comparison, because the champion was trained on them or on rows" in page
    )


def test_the_rows_that_the_champion_never_saw_and_the_new_ones_are_marked(
    months: tuple[tuple[Path, Path], Path],
) -> None:
    (data, model), before = months
    test = pq.read_table(data / "test-00000.parquet")
    judged = JudgedRows.of(data, len(test), model)
    rows = judged.held_out(test, "a" * 64, before, ())
    assert rows.met is not None
    assert rows.met.unseen.tolist() == [False] * 30 + [True] * 30
    assert rows.met.new.tolist() == [True] * 30 + [False] * 20 + [True] * 10
    itself = judged.held_out(test, "a" * 64, model, ())
    assert itself.met is not None and itself.met.unseen.all() and not itself.met.new.any()


def test_rows_that_a_start_model_learned_from_are_left_out(
    months: tuple[tuple[Path, Path], Path], tmp_path: Path
) -> None:
    """Of the candidate that started from it, and of a champion that did; also through a third model."""
    (data, model), before = months
    heir, grandchild = (tmp_path / name for name in ("heir", "grandchild"))
    trained_on(data, out=heir, start=before)
    trained_on(data, out=grandchild, start=heir)
    for one in (heir, grandchild):
        told = judged((data, one), tmp_path / f"out-{one.name}", None)
        assert told["rows"] == 30 and told["test_set"]["learned"] == 30
        assert told["metrics"]["accuracy"]["n"] == 30
        sentence = (
            "30 further test rows are left out: this model, or the one it started from, was trained on them"
            " or on rows linked to them"
        )
        assert sentence in " ".join(closing_table(told, {}, tmp_path).split())
        for page in ("report.html", "model_card.md"):
            assert sentence in " ".join((tmp_path / f"out-{one.name}" / page).read_text().split())
    against = judged((data, model), tmp_path / "against", grandchild)
    assert against["test_set"]["champion"]["left_out"] == 30 and against["test_set"]["learned"] == 0
    assert against["test_set"]["sha256"] == told["test_set"]["sha256"], "it is the same test set"


def test_a_model_that_learned_from_every_test_row_is_not_judged(
    months: tuple[tuple[Path, Path], Path], tmp_path: Path
) -> None:
    """As with `checks.test_overlap: off`, where test rows stand in train too."""
    (data, _), _ = months
    keys = read_row_keys(data)["test"]
    leaking = shutil.copytree(data, tmp_path / "leaking")
    rows = [key.tobytes() for key in keys]
    write_row_keys(leaking, {"train": rows[:59], "test": rows})
    assert JudgedRows.of(leaking, 60, leaking).kept.tolist() == [False] * 59 + [True]
    write_row_keys(leaking, {"train": rows, "test": rows})
    with pytest.raises(DataError, match="was trained on every test row, or on its"):
        JudgedRows.of(leaking, 60, leaking)


def test_what_the_champion_knows_by_heart_does_not_help_it() -> None:
    """It has its training rows right and no other; the candidate half of all."""
    rows = [["a"]] * 40
    unseen = np.arange(40) >= 20
    mine, by_heart = (
        answered(np.eye(2)[wrong.astype(int)], ("a", "b"), rows) for wrong in (np.arange(40) % 2 == 1, unseen)
    )
    held = Champion("3", "c" * 64, Path("nowhere"))
    scores = scores_of(text_classification.make(Task(), ("a", "b")))
    on_all = Opponent(scores.pairs(mine[0], by_heart[0], mine[1]))
    found = champion_figures(held, on_unseen_rows(on_all, unseen), scores, QUICK)
    assert found is not None
    assert (found["better"], found["worse"], found["difference"]) == (10, 0, 0.5)
    assert found["metrics"]["accuracy"]["value"] == 0.0 and found["metrics"]["accuracy"]["n"] == 20
    assert found["note"] == "20 rows are left out: it was trained on them or on rows linked to them"
    unknown = champion_figures(held, on_unseen_rows(on_all, None), scores, QUICK)
    assert unknown is not None and (unknown["better"], unknown["worse"]) == (10, 10)


def test_a_champion_that_learned_from_every_test_row_cannot_be_compared(
    months: tuple[tuple[Path, Path], Path], tmp_path: Path
) -> None:
    (data, model), _ = months
    test = pq.read_table(data / "test-00000.parquet")
    champion = trained_on(keyed(tmp_path, {"train": test, "test": table(KINDS, 10, 12)}), epochs=1)
    told = judged((data, model), tmp_path / "out", champion)
    (reason,) = told["gate"]["reasons"]
    assert "cannot be compared on these rows: it was trained on every one of these rows, or on rows" in reason
    assert told["gate"]["verdict"] == "challenger"


def test_row_keys_of_other_rows_are_refused(months: tuple[tuple[Path, Path], Path], tmp_path: Path) -> None:
    (data, model), _ = months
    short = shutil.copytree(data, tmp_path / "short")
    write_row_keys(short, {"test": [key_of("one")]})
    with pytest.raises(UserError, match=r"has 1 row keys for 60 test rows; run preprocess again"):
        JudgedRows.of(short, 60, model)


def test_a_test_set_is_known_by_its_rows_whatever_their_order(
    months: tuple[tuple[Path, Path], Path], three: tuple[Path, Path]
) -> None:
    """By row keys, and by content where there are none."""
    (data, _), _ = months
    test = pq.read_table(data / "test-00000.parquet")
    today = Today.of(data, len(test))
    assert today is not None
    turned, fewer = (replace(today, test=today.test.take(order)) for order in (range(59, -1, -1), range(59)))
    assert digest_of_test(today, test) == digest_of_test(turned, test) != digest_of_test(fewer, test)
    turned = test.take(list(range(len(test)))[::-1])
    assert digest_of_test(None, test) == digest_of_test(None, turned) != digest_of_test(None, test.slice(1))
    assert Today.of(three[0], 60) is None


def test_a_test_row_more_does_not_begin_anew(months: tuple[tuple[Path, Path], Path], tmp_path: Path) -> None:
    (data, model), _ = months
    test = judged((data, model), tmp_path / "out", None)["test_set"]
    before = [Judgement("a" * 64, test["sha256"], test["sample"])]
    splits = {name: table(KINDS, count, seed) for seed, (name, count) in enumerate(SIZES.items())}
    splits["test"] = pa.concat_tables([splits["test"], table(KINDS, 1, 99)])
    more = keyed(tmp_path, splits)
    rows = JudgedRows.of(more, 61, model).held_out(splits["test"], "b" * 64, None, before)
    assert (rows.uses, rows.sha256 != test["sha256"]) == (2, True)
