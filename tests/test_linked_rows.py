"""Rows linked to what a model has learned from are left out with it: near-duplicates and rows of one
group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retrainer.errors import DataError
from retrainer.formats.dataset import Dataset
from retrainer.formats.row_keys import COMPONENTS, LEFT_OUT, hand_down_row_keys
from retrainer.gate.exact import mcnemar_p_value
from retrainer.overlap import HeldOut, JudgedRows
from retrainer.settings import Checks
from tests.raw_rows import Row, run

WORDS = [f"{chr(97 + n % 26)}{chr(97 + n // 26)}word{n}" for n in range(600)]


def unlike(count: int, month: int, **more: object) -> list[Row]:
    """Rows of this month, each like no other."""
    draws = np.random.default_rng(month)
    texts = [" ".join(draws.choice(WORDS, 14)) for _ in range(count)]
    return [
        {
            "text": text,
            "labels": ["odd" if n % 2 else "even"],
            "time": f"2024-{month:02d}-{1 + n % 28:02d}",
            **more,
        }
        for n, text in enumerate(texts)
    ]


def copies(rows: list[Row], month: int) -> list[Row]:
    """Near-duplicates of the rows, which came in the month."""
    return [{**row, "text": f"{row['text']} so", "time": f"2024-{month:02d}-15"} for row in rows]


def trained_on(dataset: Path, model: Path, start: Path | None = None) -> Path:
    """A model directory as far as its row keys go; one that another may start from has a manifest."""
    model.mkdir()
    (model / "manifest.json").write_text("{}")
    hand_down_row_keys(dataset, start, model)
    return model


def judged(dataset: Path, candidate: Path, champion: Path) -> tuple[list[str], HeldOut]:
    """The texts of the candidate's test rows, and what is known of them."""
    test = Dataset(dataset).split("test")
    rows = JudgedRows.of(dataset, len(test), candidate)
    kept = test.filter(rows.kept)
    return kept["text"].to_pylist(), rows.held_out(kept, "a" * 64, champion, ())


def test_a_better_model_is_found_when_the_champion_knows_copies_of_old_rows(tmp_path: Path) -> None:
    """Of a month's new rows 22% are near-duplicates of rows that last month's champion was trained on; where
    it was, it is always right. The candidate is 8 points better on all rows that neither has seen."""
    old = unlike(800, month=1)
    run(tmp_path / "one", old, by="time", test=0.25)
    champion = trained_on(tmp_path / "one/out", tmp_path / "champion")
    learned = Dataset(tmp_path / "one/out").split("train")["text"].to_pylist()
    again = [row for row in old if row["text"] in set(learned[:66])]
    run(tmp_path / "two", [*old, *unlike(234, month=2), *copies(again, month=2)], by="time", test=0.35)
    dataset = tmp_path / "two/out"
    texts, held = judged(dataset, trained_on(dataset, tmp_path / "candidate"), champion)
    assert held.met is not None and held.learned == 0
    by_heart = np.array([text.removesuffix(" so") in learned for text in texts])
    assert sum(text.endswith(" so") for text in texts) == 66 and by_heart.sum() == 2 * 66
    assert held.met.unseen.tolist() == (~by_heart).tolist()
    assert power(~by_heart, held.met.unseen) > 0.95
    only_by_key = np.array([text not in learned for text in texts])
    assert power(~by_heart, only_by_key) < 0.8


def power(new: np.ndarray, compared: np.ndarray) -> float:
    """How often the gate's test, on the compared rows, finds a model that is 8 points better on the new
    ones."""
    draws, passed = np.random.default_rng(0), []
    for _ in range(300):
        luck = draws.random((2, len(new)))
        champion = (luck[0] < 0.82) | ~new
        candidate = np.where(luck[1] < 0.9, luck[0] < 0.90, luck[1] < 0.99)
        better = int((candidate & ~champion)[compared].sum())
        worse = int((champion & ~candidate)[compared].sum())
        passed.append(mcnemar_p_value(better, worse) <= 0.05)
    return float(np.mean(passed))


def test_groups_of_learned_rows_are_left_out_whole(tmp_path: Path) -> None:
    old = [*unlike(60, month=1), *unlike(3, month=3, group="patient"), *unlike(10, month=4)]
    run(tmp_path / "one", old, by="time", test_from="2024-04-01", validation=0)
    new = [*unlike(30, month=5), *unlike(2, month=6, group="patient")]
    run(tmp_path / "two", [*old, *new], by="time", test_from="2024-04-01", validation=0)
    dataset = tmp_path / "two/out"
    champion = trained_on(tmp_path / "one/out", tmp_path / "champion")
    texts, held = judged(dataset, trained_on(dataset, tmp_path / "candidate"), champion)
    assert held.met is not None and (len(texts), int((~held.met.unseen).sum())) == (45, 5)
    assert int(held.met.new.sum()) == 35  # of which the patient's five tell nothing about the champion


def test_a_learned_row_that_is_in_no_split_today_still_counts(tmp_path: Path) -> None:
    """The user's own test set got a copy of it, so that today nobody may train on it; the champion has."""
    old = unlike(60, month=1)
    run(tmp_path / "one", old, unlike(20, month=2))
    champion = trained_on(tmp_path / "one/out", tmp_path / "champion")
    assert not (tmp_path / "one/out" / LEFT_OUT).exists()
    manifest = run(tmp_path / "two", old, [*unlike(20, month=2), *copies(old[:5], month=2)])
    assert manifest["dropped"] == {"near-duplicate of a test row": 5}
    dataset = tmp_path / "two/out"
    texts, held = judged(dataset, trained_on(dataset, tmp_path / "candidate"), champion)
    assert held.met is not None
    assert [text.endswith(" so") for text in texts] == (~held.met.unseen).tolist() and len(texts) == 25


def test_copies_of_what_the_start_model_learned_from_are_left_out_altogether(tmp_path: Path) -> None:
    old = unlike(60, month=1)
    run(tmp_path / "one", old, unlike(20, month=2))
    start = trained_on(tmp_path / "one/out", tmp_path / "start")
    run(tmp_path / "two", old, [*unlike(20, month=2), *copies(old[:5], month=2)])
    dataset = tmp_path / "two/out"
    texts, held = judged(dataset, trained_on(dataset, tmp_path / "candidate", start), start)
    assert len(texts) == 20 and held.learned == 5
    assert held.met is not None and held.met.unseen.all()
    (dataset / COMPONENTS).unlink()  # as an older version wrote it: only the row itself is known
    assert JudgedRows.of(dataset, 25, tmp_path / "candidate").kept.all()


def test_a_test_set_of_copies_alone_judges_nobody(tmp_path: Path) -> None:
    rows = unlike(30, month=1)
    off = Checks(test_overlap="off", near_test_overlap="off")
    run(tmp_path, rows, copies(rows[:9], month=2), checks=off)
    model = trained_on(tmp_path / "out", tmp_path / "model")
    with pytest.raises(DataError, match=r"or on its near-duplicates or group.*leave checks\.test_overlap on"):
        JudgedRows.of(tmp_path / "out", 9, model)
