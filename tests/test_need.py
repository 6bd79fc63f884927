"""Learning curves: the law that is fitted, what it says of more rows, and where a report shows it."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from retrainer.errors import SettingError
from retrainer.evaluation.evaluate import Request, evaluate_model
from retrainer.evaluation.need import LEAST_TRAIN
from retrainer.formats.dataset import Dataset, write_dataset
from retrainer.formats.files import MANIFEST, hash_files, write_json
from retrainer.formats.row_keys import write_components
from retrainer.gate.scores import scores_of
from retrainer.metrics import accuracy, log_loss, mean_absolute_error
from retrainer.need.command import said, write_curve
from retrainer.need.extrapolate import Need, Point, need_of
from retrainer.need.power_law import USUAL_EXPONENT, fit
from retrainer.need.scale import Odds, Scale
from retrainer.need.subsets import nested_parts
from retrainer.need.trainings import Trainings, parse_sizes
from retrainer.need.words import at_twice, more_rows, rows_to_next_point
from retrainer.registry.judgement_tags import judgement_tags
from retrainer.settings import Backbone, Evaluation, Gate, Task, Training
from retrainer.tasks import make_task
from retrainer.tasks._class_curve import cheap_curve, scores_of_parts
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import train_model
from tests.stripes import COMPUTE, KINDS, SIDE, table

SHARE = Scale(1.0, True, True)
TASK = Task(kind="image_classification", size=SIDE, channels=1)
VERSIONS = [{"version": "1", "rows": 800, "value": 0.8}, {"version": "2", "rows": 900, "value": 0.82}]
TRAINING = Training(strategy="scratch", epochs=2, learning_rate=1e-2, batch_size=64)


def points(error: Any, wobble: float = 0.0, seed: int = 0) -> list[Point]:
    """Accuracies at 125 to 1,000 rows, 4, 3, 2 and 1 of them, by an error of the rows."""
    draw = np.random.default_rng(seed)
    return [
        Point(rows, tuple(1 - error(rows) + wobble * draw.normal() for _ in range(times)))
        for rows, times in ((125, 4), (250, 3), (500, 2), (1000, 1))
    ]


@pytest.mark.parametrize(
    ("floor", "scale", "exponent"), [(0.1, 0.2, 0.5), (0.0, 0.3, 0.25), (0.05, 0.1, 1.2)]
)
def test_a_law_is_found_again_as_scipy_finds_it(floor: float, scale: float, exponent: float) -> None:
    from scipy.optimize import curve_fit

    def error(rows: Any, a: float, b: float, c: float) -> Any:
        return a + b * (np.asarray(rows) / 1000) ** -c

    rows = np.array([125.0, 250, 500, 1000])
    errors = error(rows, floor, scale, exponent)
    law = fit(rows, errors[None], np.full(4, 1e-6), np.log([USUAL_EXPONENT]))
    bounds = ([0, 0, 0.01], [1, 1, 3])
    its, _ = curve_fit(error, rows, errors, p0=(0.05, 0.1, 0.5), bounds=bounds)
    assert law.error(2000)[0] == pytest.approx(error(2000, *its), rel=0.01)
    assert law.error(2000)[0] == pytest.approx(error(2000, floor, scale, exponent), rel=0.01)
    assert law.rows_for(law.error(3000))[0] == pytest.approx(3000)


def test_a_law_never_falls_below_no_error_nor_rises() -> None:
    rows = np.array([100.0, 200, 400, 800])
    falling, rising = [0.4, 0.2, 0.1, 0.01], [0.1, 0.11, 0.12, 0.13]
    laws = fit(rows, np.array([falling, rising]), np.full(4, 0.01), np.log([0.5, 0.5]))
    assert (laws.floor >= 0).all() and (laws.scale >= 0).all()
    assert laws.error(1e6)[0] >= 0
    assert laws.error(1600)[1] == laws.error(100)[1] == pytest.approx(0.115)
    assert np.isinf(laws.rows_for(laws.error(800) - 0.01)[1])


def test_the_interval_covers_what_comes() -> None:
    """Of curves that are what they are taken for; of real ones see docs/need-for-data.md."""
    draw = np.random.default_rng(1)
    covered = []
    for seed in range(60):
        floor, scale, exponent = draw.uniform(0, 0.2), draw.uniform(0.03, 0.3), draw.uniform(0.25, 0.9)

        def error(rows: float, a: float = floor, b: float = scale, c: float = exponent) -> float:
            return a + b * (rows / 1000) ** -c

        twice = need_of(points(error, 0.005, seed), SHARE).at_twice
        covered.append(twice["low"] <= 1 - error(2000) + 0.005 * draw.normal() <= twice["high"])
    assert 0.85 <= np.mean(covered) <= 1


def test_a_curve_that_begins_at_chance_steepens() -> None:
    """Real accuracies of a cheap head on Banking77's 77 classes, some two to sixteen rows a class, and what
    came of twice the rows; a power law of the error ends short of it."""
    values = {
        156: (0.257, 0.269, 0.276),
        234: (0.329, 0.314, 0.326),
        312: (0.378, 0.348, 0.369),
        469: (0.436, 0.407, 0.424),
        625: (0.468, 0.442, 0.456),
        938: (0.524, 0.516, 0.52),
        1250: (0.577,),
    }
    seen = [Point(rows, those) for rows, those in values.items()]
    truth = 0.682
    with_chance, without = (
        need_of(seen, Scale(1.0, True, True, worst)).at_twice for worst in (76 / 77, None)
    )
    assert with_chance["low"] < truth < with_chance["high"]
    assert without["high"] < truth


def test_far_below_the_worst_error_odds_are_the_error() -> None:
    odds = Odds(1.0)
    errors = np.array([0.001, 0.3, 0.9])
    np.testing.assert_allclose(odds.error(odds.of(errors)), errors)
    assert odds.of(errors)[0] == pytest.approx(0.001, rel=0.01)
    np.testing.assert_array_equal(Odds(np.inf).of(errors), errors)
    np.testing.assert_array_equal(Odds(np.inf).slope(errors), [1, 1, 1])
    # A model may be worse than an answer that never looks at its input.
    assert Odds.above(Scale.of(accuracy, "it", 0.5), errors).worst > 0.9
    assert Scale.of(accuracy, "it", 0.25).worst == 0.75 and Scale.of(accuracy, "it", 1.0).worst is None


def test_a_flat_curve_says_that_more_rows_do_not_help() -> None:
    need = need_of(points(lambda _: 0.2, 0.0005), SHARE)
    assert need.kind == "flat" and need.more_rows["value"] is None
    assert rows_to_next_point(need.plain()) == "flat"
    assert "the curve is flat" in more_rows(need.plain())


def test_a_steep_curve_says_how_many_rows() -> None:
    need = need_of(points(lambda rows: 0.05 + 0.2 * (rows / 1000) ** -0.5, 0.001), SHARE)
    # 0.25 - 0.01 is reached where 0.2 (n / 1000)^-0.5 = 0.19.
    assert need.kind == "rows" and need.step == 0.01
    assert need.more_rows["value"] == pytest.approx(108, rel=0.25)
    low, high = need.more_rows["low"], need.more_rows["high"]
    assert low is not None and high is not None and low < 108 < high
    assert rows_to_next_point(need.plain()) == str(need.more_rows["value"])
    assert "1 point better" in more_rows(need.plain())
    assert need.at_twice["rows"] == 2000 and "twice the rows (2,000)" in at_twice(need.plain())


def test_the_same_points_give_the_same_figures() -> None:
    made = points(lambda rows: 0.1 + 0.2 * (rows / 1000) ** -0.5, 0.01)
    assert need_of(made, SHARE) == need_of(list(reversed(made)), SHARE)
    json.dumps(need_of(made, SHARE).plain(), allow_nan=False)


@pytest.mark.parametrize(
    ("metric", "value", "error", "step"),
    [(accuracy, 0.8, 0.2, 0.01), (accuracy, 0.98, 0.02, 0.002), (mean_absolute_error, 0.3, 0.3, 0.03)],
)
def test_a_metric_becomes_an_error(metric: Any, value: float, error: float, step: float) -> None:
    scale = Scale.of(metric, "it")
    assert scale.error(value) == pytest.approx(error)
    assert scale.value(scale.error(value)) == pytest.approx(value)
    assert scale.step(scale.error(value)) == pytest.approx(step)


def test_a_metric_without_a_best_value_is_refused() -> None:
    class Returns:
        HIGHER_IS_BETTER, HIGHEST, UNIT = True, float("inf"), "points"

    with pytest.raises(SettingError, match="returns has no best value"):
        Scale.of(Returns, "returns")


def test_less_is_better_of_a_loss() -> None:
    falling = [Point(rows, (0.5 + 40 / rows, 0.5 + 41 / rows)) for rows in (100, 200, 400, 800)]
    need = need_of(falling, Scale.of(log_loss, "log_loss"))
    assert need.at_twice["low"] <= need.at_twice["value"] <= need.at_twice["high"] < falling[-1].value
    assert need.next_value < falling[-1].value


def test_too_few_sizes_or_trainings_are_refused() -> None:
    with pytest.raises(SettingError, match="3 sizes"):
        need_of([Point(10, (0.1, 0.2)), Point(20, (0.3,))], SHARE)
    with pytest.raises(SettingError, match="drawn more than once"):
        need_of([Point(rows, (0.5,)) for rows in (10, 20, 40, 80)], SHARE)


def test_parts_are_nested_and_keep_groups_whole() -> None:
    groups = np.random.default_rng(0).integers(0, 60, 400)
    parts = nested_parts(groups, [50, 100, 200, 400], seed=3)
    assert [len(part) >= size for part, size in zip(parts, (50, 100, 200, 400), strict=True)] == [True] * 4
    assert len(parts[0]) < 70 and len(parts[-1]) == 400
    for small, large in pairwise(parts):
        assert set(small) <= set(large)
        assert not set(groups[small]) & set(np.delete(groups, small))
    assert not np.array_equal(nested_parts(groups, [50], 4)[0], parts[0])


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("", [125, 250, 500, 1000]), ("1/8, 0.5 1", [125, 500, 1000]), ("1000 100 300 300", [100, 300, 1000])],
)
def test_sizes_are_shares_or_rows(text: str, sizes: list[int]) -> None:
    assert parse_sizes(text, 1000) == sizes


@pytest.mark.parametrize(
    "text", ["a b c", "1/0 1/2 1", "-5 10 20", "10 20 nan", "10 20.5 30", "100 200 2000", "1/2 1"]
)
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(SettingError, match="SIZES"):
        parse_sizes(text, 1000)


def test_the_cheap_head_is_the_ridge_regression_of_scikit_learn() -> None:
    from sklearn.linear_model import Ridge

    draw = np.random.default_rng(0)
    before, after = (
        draw.normal(size=(300, 12)).astype(np.float32),
        draw.normal(size=(40, 12)).astype(np.float32),
    )
    targets = np.eye(3, dtype=np.float32)[draw.integers(0, 3, 300)]
    parts = nested_parts(np.arange(300), [50, 300], 0)
    for part, (rows, scores) in zip(parts, scores_of_parts(before, targets, after, parts), strict=True):
        centred = before[part] - before[part].mean(axis=0)
        alpha = 0.1 * (centred**2).sum() / 12 * (1000 / rows) ** 0.5
        theirs = Ridge(alpha).fit(before[part], targets[part]).predict(after)
        np.testing.assert_allclose(scores, theirs, atol=1e-4)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """As many rows as a curve needs, and a model that was hardly trained on them."""
    folder = tmp_path_factory.mktemp("large")
    splits = {"train": LEAST_TRAIN, "validation": 40, "test": 200}
    write_dataset(
        folder / "dataset", {name: table(KINDS, n, at) for at, (name, n) in enumerate(splits.items())}
    )
    train_model(Inputs(folder / "dataset", settings()), folder / "model")
    return folder / "dataset", folder / "model"


def settings() -> Settings:
    return Settings(TASK, Backbone(family="mlp", hidden=[8]), TRAINING, COMPUTE)


def test_a_report_shows_the_curve_of_a_cheap_head(large: tuple[Path, Path], tmp_path: Path) -> None:
    report = evaluate_model(Request(*large, tmp_path / "report", Evaluation(resamples=100), Gate(), COMPUTE))
    need = report["need"]
    assert need["head"] == "pixels + ridge regression"
    assert [point["rows"] for point in need["points"]][::3] == [62, 188, 500]
    assert need["points"][-1]["value"] > 0.8
    page, card = ((tmp_path / "report" / name).read_text() for name in ("report.html", "model_card.md"))
    assert "How many more rows" in page and "not of the one above" in page and "How many more rows" in card
    tags = judgement_tags(report)
    assert tags["rows_to_next_point"] == rows_to_next_point(need) and tags["train_rows"] == "500"


def test_the_curve_is_off_where_it_would_mislead(large: tuple[Path, Path], tmp_path: Path) -> None:
    def missing(gate: Gate, evaluation: Evaluation, pair: tuple[Path, Path] = large) -> str:
        report = evaluate_model(Request(*pair, tmp_path / "report", evaluation, gate, COMPUTE))
        assert "rows_to_next_point" not in judgement_tags(report)
        assert "How many more rows" not in (tmp_path / "report" / "report.html").read_text()
        return str(report["need"]["missing"])

    quick = Evaluation(resamples=100)
    assert "gives no probabilities" in missing(Gate(metric="log_loss"), quick)
    assert "evaluation.baseline" in missing(Gate(), Evaluation(resamples=100, baseline=False))
    data = Dataset(large[0])
    few = {name: data.split(name).slice(0, 100) for name in ("train", "validation", "test")}
    write_dataset(tmp_path / "few", few)
    train_model(Inputs(tmp_path / "few", settings()), tmp_path / "model")
    assert "too few" in missing(Gate(), quick, (tmp_path / "few", tmp_path / "model"))


def test_a_head_that_learns_nothing_has_no_curve(large: tuple[Path, Path], tmp_path: Path) -> None:
    data = Dataset(large[0])
    draw = np.random.default_rng(0)
    noise = {}
    for name in ("train", "validation", "test"):
        rows = data.split(name)
        shuffled = pa.array([[KINDS[n]] for n in draw.integers(0, 3, len(rows))], pa.list_(pa.string()))
        noise[name] = rows.set_column(rows.column_names.index("labels"), "labels", shuffled)
    write_dataset(tmp_path / "noise", noise)
    train_model(Inputs(tmp_path / "noise", settings()), tmp_path / "model")
    request = Request(
        tmp_path / "noise",
        tmp_path / "model",
        tmp_path / "report",
        Evaluation(resamples=100),
        Gate(),
        COMPUTE,
    )
    assert "learns too little" in evaluate_model(request)["need"]["missing"]


def test_groups_are_taken_whole(large: tuple[Path, Path], tmp_path: Path) -> None:
    """By evaluation, and by the recipe's curve: parts of one size then differ by some rows."""
    groups = [b"%08d" % (row // 7) for row in range(LEAST_TRAIN)]
    few = [b"%08d" % (row // 200) for row in range(LEAST_TRAIN)]
    found = {}
    for name, units in (("groups", groups), ("few", few)):
        shutil.copytree(large[0], tmp_path / name)
        write_components(tmp_path / name, {"train": units})
        manifest = json.loads((tmp_path / name / MANIFEST).read_text())
        write_json(tmp_path / name / MANIFEST, manifest | {"files": hash_files(tmp_path / name)})
        request = Request(
            tmp_path / name, large[1], tmp_path / "report", Evaluation(resamples=100), Gate(), COMPUTE
        )
        found[name] = evaluate_model(request)["need"]
    assert [len(point["values"]) for point in found["groups"]["points"]] == [3] * 6 + [1]
    assert "too few groups" in found["few"]["missing"]
    inputs, scores = Inputs(tmp_path / "groups", settings()), scores_of(make_task(TASK), "")
    trainings = Trainings(inputs, scores, [60, 120, 500], "cpu", tmp_path / "known.json", lambda _: None)
    assert [len(point.values) for point in trainings.points(tmp_path)] == [4, 3, 1]


def test_rows_of_several_labels_have_a_curve_too() -> None:
    several, tested = table(KINDS, 300, 0, several=True), table(KINDS, 60, 1, several=True)
    found = cheap_curve(several, tested, True, [[np.arange(30), np.arange(300)]])
    assert [rows for rows, _ in found.answers] == [30, 300]
    right = [answer["labels"].to_pylist() == tested["labels"].to_pylist() for _, answer in found.answers]
    assert len(right) == 2 and found.answers[1][1]["labels"].type == pa.list_(pa.string())


def test_a_curve_trains_the_recipes_own_settings_on_parts(large: tuple[Path, Path], tmp_path: Path) -> None:
    told: list[str] = []
    scores = scores_of(make_task(TASK), "")
    inputs, known = Inputs(large[0], settings()), tmp_path / "known.json"
    trainings = Trainings(inputs, scores, [60, 120, 500], "cpu", known, told.append)
    found = trainings.points(tmp_path)
    assert [(point.rows, len(point.values)) for point in found] == [(60, 4), (120, 3), (500, 1)]
    assert len(told) == 8 and len(json.loads(known.read_text())) == 8
    # All rows by the recipe's own seed: the very model that evaluation judges.
    report = evaluate_model(Request(*large, tmp_path / "report", Evaluation(resamples=100), Gate(), COMPUTE))
    assert found[-1].value == pytest.approx(report["metrics"]["accuracy"]["value"], abs=1e-6)


def test_a_killed_curve_goes_on_where_it_was(large: tuple[Path, Path], tmp_path: Path) -> None:
    scores, known = scores_of(make_task(TASK), ""), tmp_path / "known.json"
    inputs = Inputs(large[0], settings())

    def killed(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainings(inputs, scores, [60, 120, 500], "cpu", known, killed).points(tmp_path)
    kept = json.loads(known.read_text())
    assert len(kept) == 1
    Trainings(inputs, scores, [60, 120, 500], "cpu", known, lambda _: None).points(tmp_path)
    assert kept.items() <= json.loads(known.read_text()).items()


def test_a_curve_is_written_sealed_and_drawn(tmp_path: Path) -> None:
    need: Need = need_of(points(lambda rows: 0.05 + 0.2 * (rows / 1000) ** -0.5, 0.002), SHARE)
    found = need.plain() | {
        "title": "accuracy <b>",
        "test_rows": 200,
        "confidence": 0.95,
        "versions": VERSIONS,
    }
    write_curve(tmp_path / "curve", found, "mine")
    manifest = json.loads((tmp_path / "curve" / "manifest.json").read_text())
    assert manifest["kind"] == "learning_curve" and set(manifest["files"]) == {"curve.json", "curve.html"}
    page = (tmp_path / "curve" / "curve.html").read_text()
    assert page.count('<circle class="dot') == 10 and "<b>" not in page and "nan" not in page
    assert "2: 0.820 with 900" in page


def test_versions_of_one_size_are_no_curve() -> None:
    need = need_of(points(lambda rows: 0.05 + 0.2 * (rows / 1000) ** -0.5, 0.002), SHARE).plain()
    found = need | {"title": "accuracy", "test_rows": 200, "confidence": 0.95, "versions": VERSIONS[:1]}
    assert "registered versions" not in " ".join(said(found))
    assert "registered versions" in " ".join(said(found | {"versions": VERSIONS}))
