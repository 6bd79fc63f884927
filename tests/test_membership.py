"""The membership-inference attack: near a coin where nothing was memorised, sure where all was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from retrainer.evaluation import privacy
from retrainer.evaluation.evaluate import Request, evaluate_model
from retrainer.evaluation.membership import compared
from retrainer.evaluation.summary import closing_table
from retrainer.formats.dataset import SCHEMA, write_dataset
from retrainer.registry.judgement_tags import judgement_tags
from retrainer.settings import Backbone, Evaluation, Gate, Training
from tests.small_datasets import png, train_to
from tests.small_networks import PLAIN, settings
from tests.small_networks import squares as squares_of
from tests.stripes import QUICK

pytestmark = pytest.mark.usefixtures("torch_settings_restored")

ROWS = {"train": 150, "test": 150}
WIDE = Backbone(family="mlp", hidden=(128,))


def alone(rows: int) -> np.ndarray:
    return np.arange(rows)


def test_the_area_is_scikit_learns_and_ties_count_half() -> None:
    draws = np.random.default_rng(0)
    train, test = draws.normal(0.5, 1, 300).round(1), draws.normal(0, 1, 200).round(1)
    found = compared(train, test, (alone(300), alone(200)), Evaluation(resamples=400))
    truth = np.r_[np.ones(300), np.zeros(200)]
    assert found["auc"] == pytest.approx(roc_auc_score(truth, np.r_[train, test]), abs=1e-6)
    # Hanley and McNeil's standard error, the usual closed form.
    area = found["auc"]
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = np.sqrt((area * (1 - area) + 299 * (q1 - area**2) + 199 * (q2 - area**2)) / (300 * 200))
    assert (found["high"] - found["low"]) == pytest.approx(2 * 1.96 * error, rel=0.15)
    threshold = np.sort(test)[-3]
    assert found["found_at_1_percent"] == pytest.approx((train > threshold).mean())


def test_rows_of_one_group_are_drawn_together() -> None:
    draws = np.random.default_rng(1)
    of_group = np.repeat(draws.normal(size=30), 10)
    train, test = of_group + draws.normal(0, 0.1, 300), np.repeat(draws.normal(size=30), 10)
    groups = np.repeat(np.arange(30), 10)
    settings = Evaluation(resamples=200)
    together = compared(train, test, (groups, groups), settings)
    apart = compared(train, test, (alone(300), alone(300)), settings)
    assert together["auc"] == apart["auc"]
    assert together["high"] - together["low"] > 2 * (apart["high"] - apart["low"])


def dataset(path: Path, random_labels: bool) -> Path:
    tables = {}
    for seed, (split, count) in enumerate(ROWS.items()):
        rows, targets = squares_of(count, seed)
        if random_labels:
            targets = np.random.default_rng(9 + seed).integers(0, 2, count)
        images = [{"bytes": png(image), "path": None} for image in rows.images[:, 0].numpy()]
        tables[split] = pa.table(
            {
                "image": pa.array(images, SCHEMA["image"]),
                "labels": pa.array([["top" if t else "bottom"] for t in targets], SCHEMA["labels"]),
                "origin": pa.array([f"{split}:{n}" for n in range(count)]),
            }
        )
    write_dataset(path, tables)
    return path


def attacked(folder: Path, training: Training, random_labels: bool = True) -> dict[str, Any]:
    rows = dataset(folder / "dataset", random_labels)
    train_to(folder / "model", rows, training, WIDE)
    request = Request(rows, folder / "model", folder / "report", QUICK, Gate(), PLAIN)
    return evaluate_model(request)


def test_a_model_that_learned_random_labels_by_heart_gives_its_rows_away(tmp_path: Path) -> None:
    report = attacked(tmp_path, settings(epochs=60, learning_rate=2e-2))
    found = report["membership"]
    # By chance half of the other rows have the label that the model gives them.
    assert found["low"] > 0.7 and found["noteworthy"]
    assert (found["train_rows"], found["test_rows"]) == (150, 150)
    said = " ".join(closing_table(report, {}, tmp_path / "report" / "report.html").split())
    assert "by the loss of a row, training rows are told from others with AUC" in said
    for page in ("report.html", "model_card.md"):
        assert "the loss of a row, training rows are told" in (tmp_path / "report" / page).read_text()
    assert float(judgement_tags(report)["membership.auc"]) == pytest.approx(found["auc"])


@pytest.mark.slow
def test_the_same_training_in_private_does_not(tmp_path: Path) -> None:
    budget = {"epsilon": 1.0, "delta": 1e-3}
    report = attacked(tmp_path, settings(epochs=20, learning_rate=2e-2, privacy=budget))
    found = report["membership"]
    assert found["low"] < 0.5 + 0.05 and found["auc"] < 0.62 and not found["noteworthy"]
    tags = judgement_tags(report)
    assert float(tags["privacy.epsilon"]) <= 1 and tags["privacy.accountant"] == "prv"
    said = " ".join(closing_table(report, {}, tmp_path / "report" / "report.html").split())
    assert "privacy epsilon" in said and "(asked: 1) at delta 0.001 for each training row" in said


def test_a_model_that_did_not_overfit_is_near_a_coin(tmp_path: Path) -> None:
    report = attacked(tmp_path, settings(epochs=3), random_labels=False)
    found = report["membership"]
    assert found["low"] < 0.5 + 0.03 and not found["noteworthy"]
    assert "by its loss" not in closing_table(report, {}, tmp_path / "report" / "report.html")


def test_where_nothing_can_be_measured_it_says_why() -> None:
    report = {"membership": {"auc": None, "note": "there are too few rows"}, "champion": None}
    assert privacy.of_attack(report).endswith("was not tested: there are too few rows")
    assert privacy.noteworthy({"champion": None}) == []


@pytest.mark.parametrize(
    ("model", "champion", "said"),
    [
        (None, {"epsilon": 2.0}, "was trained with privacy (epsilon 2), this model without"),
        (None, None, ""),
    ],
)
def test_a_champion_of_another_privacy_is_told(model: Any, champion: Any, said: str) -> None:
    report = {
        "privacy": {"model": model, "champion": champion},
        "champion": {"version": "3", "same": False},
    }
    assert said in " ".join(privacy.of_training(report))
    assert bool(privacy.of_training(report)) == bool(said)
