"""What people read: report.html (inert, self-contained, the same for the same figures), the closing table."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from retrainer.evaluation.answers import Answers, answers
from retrainer.evaluation.baselines import Baseline, majority
from retrainer.evaluation.calibration import calibration_figures
from retrainer.evaluation.classes import MOST_IN_MATRIX, matrix
from retrainer.evaluation.evaluate import _gate_figures
from retrainer.evaluation.evidence import Evidence
from retrainer.evaluation.metrics import measure
from retrainer.evaluation.mistakes import MOST, mistakes
from retrainer.evaluation.report import render
from retrainer.evaluation.rivals import Champion, Rescored, baseline_figures, champion_figures
from retrainer.evaluation.summary import WIDTH, closing_table
from retrainer.formats.dataset import IMAGE
from retrainer.registry.gate import judge
from retrainer.settings import Evaluation, Gate
from tests.html_page import Page

QUICK = Evaluation(resamples=100)
EVIL = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style></title><iframe>", "a & b'")
HISTORY = [
    {
        "epoch": n,
        "train_loss": 1 / n,
        "validation_loss": 1.1 / n,
        "validation_accuracy": 1 - 0.3 / n,
        "kept": n == 3,
    }
    for n in range(1, 6)
]
REGISTRATION = {
    "name": "sentiment-minilm",
    "version": "4",
    "alias": "champion",
    "champion": {"version": "4", "model_sha256": "c" * 64},
    "train_run_id": "a" * 32,
    "evaluation_run_id": "b" * 32,
}


def told_of(labels: tuple[str, ...], rows: int = 90, skill: float = 1.5, several: bool = False) -> Answers:
    draw = np.random.default_rng(3)
    truth = draw.integers(0, len(labels), rows)
    logits = draw.normal(size=(rows, len(labels)))
    logits[np.arange(rows), truth] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return answers(probabilities, labels, [[labels[n]] for n in truth], several)


def report_of(told: Answers, champion: Rescored | None = None, name: str = "a model") -> dict[str, Any]:
    truth = [told.wanted(row) for row in range(told.rows)]
    first = majority(truth, truth, told.multi_label)
    equal = Baseline(
        "tfidf_linear", "TF-IDF + logistic regression", told, told.rows, "fitted on 9 of 99 rows"
    )
    baselines = [first, equal]
    held = None if champion is None else Champion("3", "c" * 64, Path("nowhere"))
    evidence = Evidence(told, champion and champion.answers, majority=first.answers.correct)
    verdict = judge(Gate(), evidence)
    return {
        "name": name,
        "start": "mlp · scratch",
        "model_sha256": "d" * 64,
        "dataset_sha256": "e" * 64,
        "task": {"kind": "text_classification", "multi_label": told.multi_label},
        "labels": list(told.labels),
        "rows": told.rows,
        "confidence": 0.95,
        **measure(told, QUICK),
        "baselines": {one.name: baseline_figures(one, told, QUICK) for one in baselines},
        "no_baseline": "",
        "champion": champion_figures(held, champion, told),
        "data": {
            "rows": {"test": told.rows},
            "dropped": {},
            "checks": [],
            "max_length": None,
            "cut_rows": None,
        },
        "slices": [],
        "calibration": calibration_figures(told, 1.5),
        "test_set": {"sha256": "f" * 64, "uses": 1, "champion": None},
        "cost": {"latency_ms": None, "model_mb": 0.5},
        "gate": _gate_figures(verdict, held),
    }


def opposite(told: Answers) -> Answers:
    """Answers that are right where the others are wrong."""
    return replace(told, correct=~told.correct)


def texts_of(told: Answers, text: str = "some words") -> pa.Table:
    return pa.table(
        {
            "text": [f"{text} {n}" for n in range(told.rows)],
            "origin": [f"/home/me/x.csv:row {n}" for n in range(told.rows)],
        }
    )


def page_of(told: Answers, **more: Any) -> Page:
    table = more.pop("table", None) or texts_of(told)
    return Page(render(report_of(told, **more), HISTORY, mistakes(table, told, tuple(table.column_names))))


def test_labels_and_texts_come_out_inert() -> None:
    told = told_of(EVIL)
    page = page_of(told, table=texts_of(told, EVIL[0]), name=EVIL[1])
    assert not {"script", "iframe", "object", "embed", "link", "form", "base"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not page.open  # every tag that was opened was closed where it should be
    for evil in EVIL:
        assert evil in page.text


def test_the_page_needs_nothing_from_outside() -> None:
    content = render(report_of(told_of(("a", "b"))), HISTORY, [])
    assert "http" not in content.replace("http-equiv", "")
    assert "url(" not in content and "@import" not in content
    assert "default-src 'none'" in content


def test_it_says_everything() -> None:
    told = told_of(("cat", "dog", "emu"))
    worse = Rescored(opposite(told), report_of(told)["metrics"], "it does not know 'emu': 9 rows are wrong")
    report = report_of(told, champion=worse)
    page = Page(render(report, HISTORY, mistakes(texts_of(told), told, ("text",))))
    wanted = [
        "a model", "90 test rows", "champion (version 3)", "it does not know 'emu'", "fitted on 9 of 99 rows",
        "TF-IDF + logistic regression", "training loss", "validation accuracy", "epoch 3, whose weights",
        "Confusion", "By class", "d" * 64, "e" * 64, "smallest gain", "some words", "macro F1",
        "The model does not beat TF-IDF + logistic regression on these rows (p = 1).",
        *report["gate"]["reasons"],
    ]  # fmt: skip
    for words in wanted:
        assert words in page.text, words
    figure = report["metrics"]["accuracy"]
    assert f"{figure['value']:.3f}" in page.text
    assert f"{figure['low']:.3f} – {figure['high']:.3f}" in page.text


def test_no_folder_of_this_machine_is_told() -> None:
    told = told_of(("a", "b"))
    found = mistakes(texts_of(told), told, ("text",))
    assert found and all(re.fullmatch(r"x\.csv:row \d+", miss.where) for miss in found)


def test_the_surest_mistakes_come_first_and_are_few() -> None:
    told = told_of(("a", "b", "c"), rows=300, skill=0.3)
    found = mistakes(texts_of(told, "long " * 500), told, ("text",))
    assert len(found) == MOST
    sure = [miss.confidence for miss in found]
    assert sure == sorted(sure, reverse=True)
    wrong = told.probabilities.max(axis=1)[~told.correct]
    assert sure[0] == pytest.approx(wrong.max())
    assert all(miss.wanted != miss.decided and len(miss.texts[0]) <= 400 for miss in found)


def test_a_multi_label_mistake_is_as_sure_as_its_worst_label() -> None:
    probabilities = np.array([[0.9, 0.2, 0.6], [0.1, 0.1, 0.9]])
    told = answers(probabilities, ("a", "b", "c"), [["b"], ["c"]], multi_label=True)
    (miss,) = mistakes(texts_of(told), told, ("text",))
    assert (miss.wanted, miss.decided) == (["b"], ["a", "c"])
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
    told = answers(np.array([[0.9, 0.1]]), ("a", "b"), [["b"]], multi_label=False)
    table = pa.table({"image": pa.array([image], IMAGE), "id": ["one"]})
    (miss,) = mistakes(table, told, ("image",))
    head, _, data = miss.image.partition(",")
    assert head == f"data:image/{kind};base64" and len(data) < 60_000
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == size
    page = page_of(told, table=table)
    assert ("src", miss.image) in page.attributes


def test_many_classes_are_listed_by_their_confusions() -> None:
    few, many = (told_of(tuple(f"class-{n:02}" for n in range(k)), rows=400) for k in (MOST_IN_MATRIX, 40))
    assert "Confusion" in page_of(few).text and "Most confused classes" not in page_of(few).text
    text = page_of(many).text
    assert "Most confused classes" in text
    confusion = measure(many, QUICK)["confusion"]
    worst = max(cell[2] for cell in confusion["cells"] if cell[0] != cell[1])
    true = next(c for c in confusion["cells"] if c[0] != c[1] and c[2] == worst)[0]
    assert f"{worst} of {sum(matrix(confusion)[true])}" in text


def test_the_matrix_is_what_was_counted() -> None:
    told = told_of(("a", "b", "c"))
    counts = matrix(measure(told, QUICK)["confusion"])
    for true in range(3):
        for given in range(3):
            assert counts[true][given] == np.sum((told.targets == true) & (told.decided == given))


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
    page = Page(render(report_of(told_of(("a", "b"))), history, []))
    assert not page.open
    assert not any("nan" in value for _, value in page.attributes)


@pytest.mark.parametrize("labels", [("a", "b"), tuple("abcdefgh"), EVIL, ("x" * 300, "y")])
@pytest.mark.parametrize("several", [False, True], ids=["single", "multi"])
def test_every_kind_of_report_is_a_whole_page(labels: tuple[str, ...], several: bool) -> None:
    told = told_of(labels, several=several)
    content = render(report_of(told), HISTORY, [])
    assert not Page(content).open
    assert content == render(report_of(told), HISTORY, [])


def test_a_model_without_mistakes() -> None:
    told = told_of(("a", "b"), skill=50)
    assert "None on these rows." in page_of(told).text


@pytest.mark.parametrize("several", [False, True], ids=["single", "multi"])
def test_the_closing_table_fits_a_terminal_and_says_it_in_words(several: bool) -> None:
    told = told_of(
        ("a", "a very long label that is much longer than any column can be, and on"), several=several
    )
    worse = Rescored(
        opposite(told), report_of(told)["metrics"], "it does not know 'x': 5 rows are wrong for it"
    )
    report = report_of(told, champion=worse)
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
    share = report["metrics"]["subset_accuracy" if several else "accuracy"]
    assert flat.count(f"{share['value']:.3f} {share['low']:.3f} – {share['high']:.3f}") >= 2


def test_a_challenger_is_told_beside_the_champion_that_stays() -> None:
    told = told_of(("a", "b"))
    report = report_of(told, champion=Rescored(told, report_of(told)["metrics"], ""))
    registration = REGISTRATION | {
        "alias": "challenger",
        "champion": {"version": "3", "model_sha256": "c" * 64},
    }
    table = closing_table(report, registration, Path("report.html"))
    assert "verdict     challenger: not shown to be better than the champion" in table
    assert "version 4, challenger (the champion is version 3)" in " ".join(table.split())


def test_a_run_that_stopped_before_registration_has_a_table_too() -> None:
    assert "report      report.html" in closing_table(report_of(told_of(("a", "b"))), {}, Path("report.html"))
