"""Wrong and shifted labels of training rows: planted, found and counted; and the answers left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cleanlab.filter import find_label_issues
from sklearn.linear_model import Ridge

from retrainer.data.label_noise import FILE, noise_rate
from retrainer.data.languages import language_of
from retrainer.data.out_of_sample import LeaveOneOut, probabilities
from retrainer.data.vectors.images import image_vectors
from retrainer.data.vectors.texts import text_vectors
from retrainer.errors import UserError
from retrainer.evaluation.report import render
from retrainer.evaluation.summary import closing_table
from retrainer.label_errors import suspected
from retrainer.settings import Checks
from tests.html_page import Page
from tests.planted_leaks import CLASSES, letters
from tests.raw_rows import Row, run, where
from tests.reports import HISTORY, report_of, told_of

OFF = dict.fromkeys(("near_duplicates", "leaks", "shortcuts", "duplicates"), "off")
WARN = Checks.parse({**OFF, "shifted_labels": "warn"}, "checks")


def check_of(manifest: dict, name: str) -> dict:
    (check,) = [check for check in manifest["checks"] if check["name"] == name]
    return check


def flipped(rows: list[Row], share: float, seed: int = 0) -> set[str]:
    """Gives that share of the rows another class; their places as origins."""
    draw = np.random.default_rng(seed)
    wrong = set()
    for number, row in enumerate(rows, start=1):
        if draw.random() < share:
            others = [name for name in CLASSES if [name] != row["labels"]]
            row["labels"] = [others[int(draw.integers(2))]]
            wrong.add(f"a.csv:row {number}")
    return wrong


def test_planted_wrong_labels_are_listed_and_counted(tmp_path: Path) -> None:
    rows = letters(1200)
    wrong = flipped(rows, 0.1)
    manifest = run(tmp_path, rows, checks=WARN)
    wrong = {origin for origin, split in where(tmp_path).items() if split == "train" and origin in wrong}
    check = check_of(manifest, "label_noise")
    listed = [json.loads(line)["origin"] for line in (tmp_path / "findings" / FILE).read_text().splitlines()]
    assert check["count"] == len(listed) > 50
    assert len(wrong & set(listed)) >= 0.6 * len(listed)
    assert len(wrong & set(listed)) >= 0.65 * len(wrong)
    assert "% (± " in check["note"] and check["examples"][0].startswith(listed[0])
    page = Page((tmp_path / "findings" / "report.html").read_text())
    assert "Labels to look at again" in page.text and "is likelier" in page.text


def test_right_labels_are_no_finding(tmp_path: Path) -> None:
    manifest = run(tmp_path, letters(1200), checks=WARN)
    assert check_of(manifest, "label_noise")["count"] == 0


@pytest.mark.parametrize("share", [0.0, 0.05, 0.1, 0.2])
def test_the_rate_is_what_was_planted(share: float) -> None:
    rows = letters(1500, seed=3)
    flipped(rows, share, seed=4)
    given = np.array([CLASSES.index(row["labels"][0]) for row in rows])
    left_out = LeaveOneOut(text_vectors([row["text"] for row in rows]))
    rate, error = noise_rate(probabilities(left_out.scores(given, 3), given), given)
    assert abs(rate - share) <= 3 * error + 0.01


@pytest.mark.parametrize("shift", [-1, 1])
def test_labels_that_slipped_by_a_row_stop(shift: int, tmp_path: Path) -> None:
    rows = letters(700)
    labels = [row["labels"] for row in rows]
    for number, row in enumerate(rows):
        row["labels"] = labels[(number + shift) % len(rows)]
    where = "below" if shift < 0 else "above"
    with pytest.raises(UserError, match=rf"checks\.shifted_labels: .*label of the row {where} them"):
        run(tmp_path, rows, checks=Checks.parse(OFF, "checks"))


def test_labels_that_slipped_from_the_middle_on_are_found(tmp_path: Path) -> None:
    rows = letters(1500)
    labels = [row["labels"] for row in rows]
    for number in range(900, len(rows) - 1):
        rows[number]["labels"] = labels[number + 1]
    count = check_of(run(tmp_path, rows, checks=WARN), "shifted_labels")["count"]
    assert 250 <= count <= 550
    assert check_of(run(tmp_path / "clean", letters(1500), checks=WARN), "shifted_labels")["count"] == 0


def test_a_sorted_source_is_said_to_be_sorted(tmp_path: Path) -> None:
    rows = sorted(letters(600), key=lambda row: row["labels"])
    check = check_of(run(tmp_path, rows, checks=WARN), "shifted_labels")
    assert check["count"] == 0 and check["note"] == "the source is sorted by label"


@pytest.mark.parametrize("shape", [(60, 12), (20, 40)])
def test_what_is_left_out_is_what_fitting_all_others_gives(shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(1)
    vectors = draw.normal(size=shape).astype(np.float32)
    codes = draw.integers(0, 3, shape[0])
    ours = LeaveOneOut(vectors, penalty=0.2).scores(codes, 3)
    centred = vectors - vectors.mean(axis=0)
    alpha = 0.2 * float((centred**2).sum()) / min(shape)
    targets = np.eye(3)[codes]
    for row in range(shape[0]):
        others = np.arange(shape[0]) != row
        theirs = Ridge(alpha=alpha).fit(vectors[others], targets[others]).predict(vectors[[row]])[0]
        np.testing.assert_allclose(ours[row], theirs, atol=0.02)


def test_the_suspected_are_those_of_cleanlab() -> None:
    rows = letters(900, seed=2)
    flipped(rows, 0.1, seed=2)
    given = np.array([CLASSES.index(row["labels"][0]) for row in rows])
    told = probabilities(LeaveOneOut(text_vectors([row["text"] for row in rows])).scores(given, 3), given)
    theirs = find_label_issues(given, told, filter_by="confident_learning", n_jobs=1)
    ours = set(suspected(told, given).tolist())
    assert ours <= set(np.flatnonzero(theirs).tolist())
    assert len(ours) >= 0.9 * theirs.sum() > 0


def test_probabilities_are_calibrated_to_the_given_labels() -> None:
    draw = np.random.default_rng(0)
    scores = draw.normal(0, 0.2, (4000, 3))
    raised = np.exp(scores / 0.1)
    shares = raised / raised.sum(axis=1, keepdims=True)
    codes = np.array([draw.choice(3, p=row) for row in shares])
    np.testing.assert_allclose(probabilities(scores, codes), shares, atol=0.06)


def test_vectors_hold_what_the_rows_say() -> None:
    texts = text_vectors(["one two three", "one two three", "four five", ""])
    assert texts[0] @ texts[1] > 0.999 and abs(texts[0] @ texts[2]) < 0.2 and not texts[3].any()
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 255, (50, 32, 32, 3), dtype=np.uint8)
    made = image_vectors(pixels)
    assert made.shape[0] == 50 and np.isfinite(made).all() and np.abs(made.mean(axis=0)).max() < 1e-3
    np.testing.assert_array_equal(made, image_vectors(pixels))


def test_labels_that_a_linear_model_cannot_tell_are_not_judged(tmp_path: Path) -> None:
    rows = letters(700)
    flipped(rows, 0.6)
    check = check_of(run(tmp_path, rows, checks=WARN), "label_noise")
    assert check["count"] == 0 and "too hard for a linear model" in check["note"]
    assert not (tmp_path / "findings" / FILE).exists()


def test_the_rate_stands_in_the_closing_table_and_in_the_report() -> None:
    report = report_of(told_of(("a", "b")))
    note = (
        "of 900 training rows have a label that the rows like them contradict; about 9.1% (± 2.0%) are wrong"
    )
    for count in (82, 0):
        report["data"]["checks"] = [{"name": "label_noise", "level": "warn", "count": count, "note": note}]
        table = " ".join(closing_table(report, {}, Path("report.html")).split())
        assert (f"82 {note}" in table) is (f"82 {note}" in Page(render(report, HISTORY)).text) is (count > 0)


GERMAN = [
    "der",
    "die",
    "das",
    "und",
    "ist",
    "ein",
    "eine",
    "mit",
    "auf",
    "dem",
    "den",
    "nicht",
    "ich",
    "im",
    "von",
    "zu",
    "sich",
]
ENGLISH = [
    "the",
    "and",
    "of",
    "to",
    "is",
    "in",
    "my",
    "it",
    "that",
    "for",
    "have",
    "how",
    "what",
    "was",
    "with",
    "this",
    "are",
]


def in_language(count: int, small: tuple[str, ...], seed: int, labels_tell: bool) -> list[Row]:
    """Texts of six small words of a language and six words of which those of the class are more frequent."""
    draw, rows = np.random.default_rng(seed), []
    for number in range(count):
        label = CLASSES[number % 3]
        told = label if labels_tell else str(draw.choice(CLASSES))
        own = [f"{small[0]}{told}{n}" for n in draw.integers(0, 12, 3)]
        others = [f"{small[0]}{name}{n}" for name in CLASSES for n in draw.integers(0, 12, 1)]
        words = [*draw.choice(small, 6), *own, *others]
        rows.append({"text": " ".join(draw.permutation(words)), "labels": [label]})
    return rows


def test_a_language_that_nobody_could_label_is_named(tmp_path: Path) -> None:
    rows = [*in_language(900, ENGLISH, 0, True), *in_language(180, GERMAN, 1, False)]
    manifest = run(tmp_path, rows, checks=WARN)
    noise = [check for check in manifest["checks"] if check["name"] == "label_noise" and check["count"]]
    named = [check for check in noise if "texts in German have labels" in check["note"]]
    assert len(named) == 1 and 100 < named[0]["count"] <= 180 and "as many in English" in named[0]["note"]


def test_a_language_with_labels_as_good_is_not_named(tmp_path: Path) -> None:
    rows = [*in_language(900, ENGLISH, 0, True), *in_language(180, GERMAN, 1, True)]
    manifest = run(tmp_path, rows, checks=WARN)
    assert not [check for check in manifest["checks"] if " texts in " in check["note"]]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("how do I get to the card that was lost", "English"),
        ("Wo finde ich die PIN von der Karte, die nicht geht?", "German"),
        ("je ne trouve pas la carte qui est dans le sac", "French"),
        ("где моя карта, please", "Cyrillic"),
        ("我的卡在哪里", "Cjk"),
        ("café crème", ""),
        ("top-up failed!!", ""),
        ("", ""),
    ],
)
def test_small_words_and_scripts_tell_a_language(text: str, language: str) -> None:
    assert language_of(text) == language


def hard(count: int) -> list[Row]:
    """Nine classes, of which a third of the texts says nothing."""
    draw, rows = np.random.default_rng(3), []
    for number in range(count):
        own = [f"c{number % 9}w{n}" for n in draw.integers(0, 9, 5)] if draw.random() < 0.65 else []
        others = [f"x{n}" for n in draw.integers(0, 60, 8 - len(own))]
        rows.append({"text": " ".join([*own, *others, f"r{number}"]), "labels": [f"class {number % 9}"]})
    return rows


def test_wrong_labels_are_counted_where_they_hide_the_skill_of_a_model(tmp_path: Path) -> None:
    """With them it tells a third of what is to be learned, without them two thirds."""
    rows, draw = hard(2600), np.random.default_rng(4)
    noisy = [{**row, "labels": [f"class {draw.integers(9)}"]} if draw.random() < 0.3 else row for row in rows]
    check = check_of(run(tmp_path, noisy, checks=WARN), "label_noise")
    assert check["count"] > 100 and "rather fewer than more" in check["note"]


@pytest.mark.parametrize(("wrong", "found"), [(0.0, False), (0.01, False), (0.2, True)])
def test_wrong_labels_of_a_thousand_hard_texts_are_named(wrong: float, found: bool, tmp_path: Path) -> None:
    rows, draw = hard(1100), np.random.default_rng(5)
    given = [
        {**row, "labels": [f"class {draw.integers(9)}"]} if draw.random() < wrong else row for row in rows
    ]
    check = check_of(run(tmp_path, given, checks=WARN), "label_noise")
    assert bool(check["count"]) == found, check
