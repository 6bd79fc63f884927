"""What people read: report.html (inert, self-contained, the same for the same figures), the closing table."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from retrainer.evaluation.report import render
from retrainer.evaluation.summary import WIDTH, closing_table
from retrainer.evaluation.words import number
from retrainer.formats.dataset import IMAGE
from retrainer.formats.report import MOST_IN_MATRIX, confusion_matrix
from retrainer.metrics._classes import classes
from retrainer.pages.charts import Range, range_chart
from retrainer.tasks._class_details import confusion_of, per_class
from retrainer.tasks._class_examples import MOST, mistakes
from retrainer.tasks._class_panels import mistakes_section
from tests.html_page import Page
from tests.predictions import Tables, answered
from tests.reports import EVIL, HISTORY, opposite, panels_of, report_of, told_of, with_texts

REGISTRATION = {
    "name": "sentiment-minilm",
    "version": "4",
    "alias": "champion",
    "champion": {"version": "4", "model_sha256": "c" * 64},
    "train_run_id": "a" * 32,
    "evaluation_run_id": "b" * 32,
}


def page_of(tables: Tables, **more: Any) -> Page:
    report = report_of(tables, **more)
    return Page(render(report, HISTORY, panels_of(tables, report)))


def test_labels_and_texts_come_out_inert() -> None:
    predictions, rows = told_of(EVIL)
    page = page_of(with_texts((predictions, rows.drop_columns(["text"])), EVIL[0]), name=EVIL[1])
    assert not {"script", "iframe", "object", "embed", "link", "form", "base"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not page.open  # every tag that was opened was closed where it should be
    for evil in EVIL:
        assert evil in page.text


def test_the_page_needs_nothing_from_outside() -> None:
    content = render(report_of(told_of(("a", "b"))), HISTORY)
    assert "http" not in content.replace("http-equiv", "")
    assert "url(" not in content and "@import" not in content
    assert "default-src 'none'" in content


def test_the_page_shows_every_part_of_the_report() -> None:
    told = told_of(("cat", "dog", "emu"))
    report = report_of(told, champion=opposite(told), note="it does not know 'emu': 9 rows are wrong")
    page = Page(render(report, HISTORY, panels_of(told, report)))
    wanted = [
        "a model", "90 test rows", "champion (version 3)", "it does not know 'emu'", "fitted on 9 of 99 rows",
        "TF-IDF + logistic regression", "training loss", "validation accuracy", "epoch 3, whose weights",
        "Confusion", "By class", "d" * 64, "e" * 64, "smallest gain", "some words", "macro F1",
        "For calibration error and log loss less is better.", "one-sided exact McNemar test",
        "The model does not beat TF-IDF + logistic regression on these rows (p = 1).",
        *report["gate"]["reasons"],
    ]  # fmt: skip
    for words in wanted:
        assert words in page.text, words
    figure = report["metrics"]["accuracy"]
    assert f"{figure['value']:.3f}" in page.text
    assert f"{figure['low']:.3f} – {figure['high']:.3f}" in page.text


@pytest.mark.parametrize(("metric", "gain"), [("macro_f1", "points"), ("log_loss", "+")])
def test_the_page_and_the_table_go_by_the_metric_of_the_gate(metric: str, gain: str) -> None:
    told = told_of(("cat", "dog", "emu"))
    weak, _ = told_of(("cat", "dog", "emu"), skill=0.0)
    report = report_of(told, champion=weak, metric=metric)
    assert report["headline"] == report["gate"]["metric"] == metric
    title, champion = report["about"][metric]["title"], report["champion"]
    assert champion["difference"] > 0.1 and champion["better"] is None
    page = " ".join(Page(render(report, HISTORY)).text.split())
    table = closing_table(report, {}, Path("report.html"))
    assert f"better than the champion in {title}" in page and "one-sided paired bootstrap" in page
    assert f"in {title} is the smallest gain" in " ".join(table.split())
    lines = table.splitlines()
    assert lines[2].startswith(title) and max(map(len, lines)) <= WIDTH
    for name in ("champion (version 3)", "TF-IDF"):
        (row,) = [line for line in lines if line.startswith(name)]
        figure = (champion if "champion" in name else report["baselines"]["tfidf_linear"])["metrics"][metric]
        assert f"{figure['value']:.3f}" in row or f"{figure['value']:.2f}" in row
    assert gain in page


def test_no_folder_of_this_machine_is_told() -> None:
    predictions, rows = told_of(("a", "b"))
    found = mistakes(rows, classes(predictions, rows), ("text",))
    assert found and all(re.fullmatch(r"x\.csv:row \d+", miss.where) for miss in found)


def test_the_surest_mistakes_come_first_and_are_few() -> None:
    tables = told_of(("a", "b", "c"), rows=300, skill=0.3)
    predictions, rows = with_texts((tables[0], tables[1].drop_columns(["text"])), "long " * 500)
    arrays = classes(predictions, rows)
    found = mistakes(rows, arrays, ("text",))
    assert len(found) == MOST
    sure = [miss.confidence for miss in found]
    assert sure == sorted(sure, reverse=True)
    wrong = arrays.probabilities.max(axis=1)[~arrays.correct]
    assert sure[0] == pytest.approx(wrong.max())
    assert all(miss.truth != miss.decided and len(miss.texts[0]) <= 400 for miss in found)
    assert f"12 of {len(wrong)} wrong answers" in mistakes_section(found, len(wrong))


def test_a_multi_label_mistake_is_as_sure_as_its_worst_label() -> None:
    probabilities = np.array([[0.9, 0.2, 0.6], [0.1, 0.1, 0.9]])
    tables = with_texts(answered(probabilities, ("a", "b", "c"), [["b"], ["c"]], multi_label=True))
    (miss,) = mistakes(tables[1], classes(*tables), ("text",))
    assert (miss.truth, miss.decided) == (["b"], ["a", "c"])
    assert (miss.confidence, miss.truth_probability) == (pytest.approx(0.9), pytest.approx(0.1))


def encoded(width: int, height: int, mode: str, form: str) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    image = Image.fromarray(draw.integers(0, 255, shape, dtype=np.uint8), mode=None)
    buffer = io.BytesIO()
    image.save(buffer, form)
    return {"bytes": buffer.getvalue(), "path": None}


@pytest.mark.parametrize(
    ("image", "kind", "size"),
    [
        (encoded(28, 20, "L", "PNG"), "png", (28, 20)),
        (encoded(900, 700, "RGB", "JPEG"), "jpeg", (144, 144)),
        (encoded(200, 80, "RGBA", "PNG"), "jpeg", (144, 144)),
    ],
)
def test_images_become_small_data_uris(image: dict[str, Any], kind: str, size: tuple[int, int]) -> None:
    predictions, rows = answered(np.array([[0.9, 0.1]]), ("a", "b"), [["b"]])
    test = rows.append_column("image", pa.array([image], IMAGE))
    (miss,) = mistakes(test, classes(predictions, rows), ("image",))
    head, _, data = miss.image.partition(",")
    assert head == f"data:image/{kind};base64" and len(data) < 60_000
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == size
    page = Page(mistakes_section([miss], 1))
    assert ("src", miss.image) in page.attributes


def test_many_classes_are_listed_by_their_confusions() -> None:
    few, many = (told_of(tuple(f"class-{n:02}" for n in range(k)), rows=400) for k in (MOST_IN_MATRIX, 40))
    assert "Confusion" in page_of(few).text and "Most confused classes" not in page_of(few).text
    text = page_of(many).text
    assert "Most confused classes" in text
    confusion = confusion_of(classes(*many))
    assert sum(count for _, _, count in confusion["cells"]) == 400
    worst = max(cell[2] for cell in confusion["cells"] if cell[0] != cell[1])
    true = next(c for c in confusion["cells"] if c[0] != c[1] and c[2] == worst)[0]
    assert f"{worst} of {sum(confusion_matrix(confusion)[true])}" in text


def test_the_matrix_is_what_was_counted() -> None:
    found = classes(*told_of(("a", "b", "c")))
    counts = confusion_matrix(confusion_of(found))
    for true in range(3):
        for given in range(3):
            assert counts[true][given] == np.sum(found.targets[:, true] & found.decided[:, given])


def test_figures_of_each_class_are_scikit_learns() -> None:
    from sklearn.metrics import precision_recall_fscore_support

    found = classes(*told_of(tuple("abcdefg"), rows=500))
    expected = precision_recall_fscore_support(found.targets.argmax(axis=1), found.decided.argmax(axis=1))
    table = per_class(found)
    for name, column in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [row[name] for row in table] == pytest.approx(list(column), abs=1e-6)


def test_a_class_that_the_model_does_not_know_and_one_without_rows() -> None:
    probabilities = np.array([[0.9, 0.05, 0.05], [0.2, 0.7, 0.1]])
    tables = answered(probabilities, ("a", "b", "rare"), [["a"], ["new"]])
    known, _, rare, new = per_class(classes(*tables))
    assert known["recall"] == 1.0
    assert (new["recall"], new["precision"], new["f1"]) == (0.0, None, 0.0)
    assert rare == {
        "label": "rare", "precision": None, "recall": None, "f1": None, "support": 0, "predicted": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "history",
    [
        [],
        [{"epoch": 1, "train_loss": 0.5, "kept": True}],
        [{"loss": "?"}],
        [{"train_loss": float("nan")}, {"train_loss": 1}],
    ],
    ids=["none", "one epoch", "other names", "not a number"],
)
def test_any_history_can_be_drawn(history: list[dict[str, Any]]) -> None:
    page = Page(render(report_of(told_of(("a", "b"))), history))
    assert not page.open
    assert not any("nan" in value for _, value in page.attributes)


@pytest.mark.parametrize("labels", [("a", "b"), tuple("abcdefgh"), EVIL, ("x" * 300, "y")])
@pytest.mark.parametrize("several", [False, True], ids=["single", "multi"])
def test_every_kind_of_report_is_a_whole_page(labels: tuple[str, ...], several: bool) -> None:
    told = told_of(labels, several=several)
    report = report_of(told)
    content = render(report, HISTORY, panels_of(told, report))
    assert not Page(content).open
    again = report_of(told)
    assert content == render(again, HISTORY, panels_of(told, again))


def test_a_model_without_mistakes() -> None:
    told = told_of(("a", "b"), skill=50)
    assert "None on these rows." in page_of(told).text


@pytest.mark.parametrize("several", [False, True], ids=["single", "multi"])
def test_the_closing_table_fits_a_terminal_and_says_it_in_words(several: bool) -> None:
    told = told_of(
        ("a", "a very long label that is much longer than any column can be, and on"), several=several
    )
    note = "it does not know 'x': 5 rows are wrong for it"
    report = report_of(told, champion=opposite(told), note=note)
    table = closing_table(report, REGISTRATION, Path("runs/sentiment-minilm/report/report.html"))
    lines = table.splitlines()
    assert max(map(len, lines)) <= WIDTH == 78
    assert not any(line != line.rstrip() for line in lines) and "\x1b" not in table
    flat = " ".join(table.split())
    for words in (
        "90 test rows", "95% interval", "macro F1", "log loss", "this model", "champion (version 3)",
        "TF-IDF + logistic regression", "verdict champion: better than the champion",
        "The model does not beat TF-IDF + logistic regression on these rows (p = 1).",
        "is the smallest gain that 90 test rows show", "it does not know 'x'",
        "sentiment-minilm, version 4, champion", "a" * 32, "b" * 32,
        "runs/sentiment-minilm/report/report.html",
    ):  # fmt: skip
        assert words in flat, words
    share = report["metrics"]["accuracy"]
    assert flat.count(f"{share['value']:.3f} {share['low']:.3f} – {share['high']:.3f}") >= 2


def test_what_the_checks_found_stands_in_the_table_and_on_the_first_screen() -> None:
    report = report_of(told_of(("a", "b")))
    path = Path("runs/x/report/report.html")
    clean = " ".join(closing_table(report, {}, path).split())
    assert "data 90 rows in, none left out; found: nothing; runs/x/findings/report.html" in clean
    report["data"] |= {
        "dropped": {"duplicate": 1, "empty text": 9},
        "checks": [
            {"name": "near_duplicates", "count": 3, "share": None},
            {"name": "empty", "count": 9, "share": 0.09},
            {"name": "unseen_class", "count": 0, "share": 0.0},
        ],
    }
    said = "100 rows in, 10 left out (9 empty text, 1 duplicate); found: empty 9 (9%), near duplicates 3"
    assert said in " ".join(closing_table(report, {}, path).split())
    page = Page(render(report, HISTORY)).text
    assert page.index(said) < page.index("On the test rows"), "on the first screen"


def test_a_champion_without_figures_of_its_data_is_told() -> None:
    told = told_of(("a", "b"))
    table = " ".join(closing_table(report_of(told, champion=told[0]), {}, Path("report.html")).split())
    assert "version 3, the champion, keeps no figures of its data (an older version made it)" in table


def test_a_challenger_is_told_beside_the_champion_that_stays() -> None:
    told = told_of(("a", "b"))
    report = report_of(told, champion=told[0])
    registration = REGISTRATION | {
        "alias": "challenger",
        "champion": {"version": "3", "model_sha256": "c" * 64},
    }
    table = closing_table(report, registration, Path("report.html"))
    assert "verdict     challenger: not shown to be better than the champion" in table
    assert "version 4, challenger (the champion is version 3)" in " ".join(table.split())


def test_a_long_title_of_a_metric_is_cut_like_the_rows_below_it() -> None:
    report = report_of(told_of(("a", "b")))
    for about in report["about"].values():
        about["title"] = "what a plug-in's metric may be called in so many words"
    lines = closing_table(report, {}, Path("report.html")).splitlines()
    assert sum("what a plug-in's metric may be called in so …" in line for line in lines) == 4
    assert max(map(len, lines)) <= WIDTH


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.9654, "0.965"), (0.0, "0.000"), (0.0004321, "0.00043"), (-2e-6, "-2e-06"), (37.683, "37.68")],
)
def test_a_figure_has_the_decimals_that_say_something(value: float, shown: str) -> None:
    assert number(value, 286) == shown


def test_the_test_of_each_opponent_is_named() -> None:
    report = report_of(told_of(("a", "b")))
    report["baselines"]["majority"]["better"] = None  # its rows are not right or wrong
    assert "(one-sided exact McNemar test or paired bootstrap)" in Page(render(report, HISTORY)).text


def test_a_run_that_stopped_before_registration_has_a_table_too() -> None:
    assert "report      report.html" in closing_table(report_of(told_of(("a", "b"))), {}, Path("report.html"))


@pytest.mark.parametrize("value", [0.2, 0.99, 1.0, 1.05, 1.4, 12.0])
def test_a_share_above_one_stays_on_its_chart(value: float) -> None:
    """A word error rate can be: more words were written than were said."""
    chart = range_chart([Range("it", value, value, value, f"{value}", own=True)], "word error rate")
    drawn = [float(x) for x in re.findall(r' (?:cx|x1|x2)="([\d.-]+)%"', chart)]
    assert drawn and all(0 <= x <= 100 for x in drawn)
