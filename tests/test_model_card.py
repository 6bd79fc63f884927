"""The model card: from facts alone, inert, in full; and what registration tells of the judgement."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from retrainer.evaluation.model_card import model_card
from retrainer.evaluation.report import render
from retrainer.evaluation.summary import closing_table
from retrainer.pages.markdown import plain
from retrainer.registry.judgement_tags import description, judgement_tags
from retrainer.tasks._class_details import FEW_ROWS
from tests.html_page import Page
from tests.reports import EVIL, HISTORY, panels_of, report_of, told_of

RULES = [
    {
        "name": "comparison",
        "setting": "gate.policy",
        "value": 0.0123,
        "bound": 0.05,
        "passed": True,
        "note": "better than the champion",
    },
    {
        "name": "region = north|south",
        "setting": "gate.slice_floors.region",
        "value": 0.71,
        "bound": 0.8,
        "passed": False,
        "note": "accuracy on the 45 rows with region = north|south 0.7100 is below gate.slice_floors.region",
    },
    {
        "name": "region = north south",
        "setting": "gate.slice_floors.region",
        "value": None,
        "bound": 0.8,
        "passed": True,
        "note": "nothing to judge",
    },
]
SLICES = [
    {"by": "region", "name": "north|south", "rows": 45, "value": 0.71, "low": 0.57, "high": 0.82},
    {"by": "region", "name": "<b>east</b>", "rows": 33, "value": 0.97, "low": 0.85, "high": 0.99},
    {"by": "region", "name": "hamlet", "rows": 2, "value": 0.0, "low": 0.0, "high": 0.66},
]
DATA = {
    "rows": {"train": 700, "validation": 100, "test": 90},
    "dropped": {"empty text": 3},
    "checks": [
        {"name": "label_spelling", "level": "warn", "count": 2, "note": "'Cat' and 'cat'", "examples": []}
    ],
    "max_length": 64,
    "cut_rows": 7,
}
MET = {"same": 60, "new": 30, "gone": 4, "left_out": 12}


def full(labels: tuple[str, ...] = ("cat", "dog", "emu"), **changes: Any) -> dict[str, Any]:
    """A report with everything that there can be."""
    told = told_of(labels)
    report = report_of(told, champion=told[0], note="it does not know 'emu'")
    more = {"policy": "better", "margin": 0.01, "new_rows": {"rows": 30, "p_value": 0.5}, "rules": RULES}
    return {
        **report,
        "gate": report["gate"] | more,
        "slices": SLICES,
        "data": DATA,
        "test_set": {"sha256": "f" * 64, "uses": 3, "champion": MET},
        "cost": {"latency_ms": 4.5, "model_mb": 90.1},
        **changes,
    }


def flat(text: str) -> str:
    return " ".join(text.split())


SAID = (
    "At least half of these test rows have judged 3 models of this name, this one included.",
    "Of 90 test rows 60 are the same as when the champion was judged, 30 are new, and 4 are gone since.",
    "12 rows are left out of the comparison, because the champion was trained on them or on rows linked to"
    " them.",
    "at temperature 1.5, which was fitted to the validation rows",
    "The model takes 90.1 MB; one row takes 4.5 ms",
)


def test_the_card_says_all_that_is_known() -> None:
    report = full()
    shown = flat(model_card(report).replace("\\", ""))
    for words in (
        *SAID, "700 rows train, 100 rows validation, 90 rows test", "e" * 64, "3 empty text",
        "label_spelling | 2 | 'Cat' and 'cat'", "7 test rows were cut to 64 tokens", "champion (version 3)",
        "| comparison | 0.0123 | 0.05 | holds | better than the champion |", "| 0.71 | 0.8 | **fails** |",
        "| region | <b>east</b> | 33 | 0.970 | 0.850 – 0.990 |", "macro F1", "TF-IDF + logistic regression",
        "is the smallest gain that 90 test rows show", "The model does not beat TF-IDF + logistic regression",
        "Rows from elsewhere than this dataset were not tested.", "python FOLDER/use_me.py",
        *report["gate"]["reasons"],
    ):  # fmt: skip
        assert words in shown, words
    assert "evaluation.slices is empty" not in shown
    assert model_card(report) == model_card(full())


def test_limits_are_told_only_where_they_are() -> None:
    report = report_of(told_of(("cat", "dog")))
    shown = model_card(report).replace("\\", "")
    assert "evaluation.slices is empty" in shown and "was not measured" in shown
    for words in ("tokens", "Checks that warned", "left out", "fewer than"):
        assert words not in shown, words
    rare = model_card(report_of(told_of(tuple(f"class-{n}" for n in range(30))))).replace("\\", "")
    assert re.search(rf"\d+ classes have fewer than {FEW_ROWS} test rows: class-\d+", rare)


HOSTILE = (
    *EVIL,
    "[click](javascript:alert(1))",
    "![x](http://evil/x.png)",
    "a|b\n\n# Title",
    "`code` **bold** _it_ ~~gone~~ $x$",
    "<http://evil>",
    "&lt;b&gt;",
)


@pytest.mark.parametrize("evil", HOSTILE)
def test_outside_text_stays_text(evil: str) -> None:
    """To a Markdown reader it has the same parts as with a harmless word, and the text as it was."""
    shown, expected = (parts(model_card(hostile(text))) for text in (evil, "harmless"))
    assert [kind for kind, _ in shown] == [kind for kind, _ in expected]
    said = " ".join(evil.split())
    for (_, text), (_, plainly) in zip(shown, expected, strict=True):
        assert text == plainly.replace("harmless", said)


def hostile(text: str) -> dict[str, Any]:
    """A report in which every text from outside is this one."""
    report = full(("a", text), name=text, start=text, no_baseline=text)
    report["slices"] = [SLICES[0] | {"by": text, "name": text}]
    report["gate"]["reasons"] = [text]
    report["gate"]["rules"] = [RULES[1] | {"name": text, "note": text}]
    report["data"] = DATA | {"dropped": {text: 1}, "checks": [{"name": text, "count": 1, "note": text}]}
    report["details"] |= {"notes": [text], "limits": [text]}
    return report


def parts(card: str) -> list[tuple[str, str]]:
    """Kind and text of every piece of a Markdown page; neighbouring texts are one."""
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    found: list[tuple[str, str]] = []
    for block in reader.parse(card):
        for piece in block.children or [block]:
            kind = "text" if piece.type in ("text", "text_special") else piece.type
            if kind == "text" and found and found[-1][0] == "text":
                found[-1] = ("text", found[-1][1] + piece.content)
            else:
                found.append((kind, piece.content))
    return found


@pytest.mark.parametrize("evil", [*HOSTILE, "www.evil.com"])
def test_outside_text_is_inert_in_the_page_too(evil: str) -> None:
    page = Page(render(hostile(evil), HISTORY))
    assert not {"script", "iframe", "a"} & set(page.tags) and not page.open
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert evil in page.text


def test_plain_text_is_one_line_without_hidden_signs() -> None:
    assert plain("a\r\nb\u2028c\u202ed\x00") == "a b c d"
    assert plain("see www.evil.com, WWW.x") == "see www\\.evil.com, WWW\\.x"
    assert plain("http://x mailto:a@b") == "http\\://x mailto\\:a\\@b"
    assert plain("naïve Ünïcode, 日本語: 3.5 – 4 (ok)") == "naïve Ünïcode, 日本語: 3.5 – 4 (ok)"


def test_the_page_shows_rules_slices_calibration_and_the_test_set() -> None:
    report, told = full(), told_of(("cat", "dog", "emu"))
    page = Page(render(report, HISTORY, panels_of(told, report)))
    for words in (*SAID, "The gate's rules", "By slice", "Calibration", "region", "better than the champion"):
        assert words in flat(page.text), words
    kinds = [value for name, value in page.attributes if name == "class"]
    assert kinds.count("holds") == 2 and kinds.count("fails") == 1
    assert kinds.count("floor") == len(SLICES)
    assert "Rows to look at again" not in page.text
    checks = [{"name": "label_errors", "level": "warn", "count": 2, "note": "rows are doubted"}]
    report["details"] |= {"checks": checks, "label_errors": [3, 5]}
    again = Page(render(report, HISTORY, panels_of(told, report)))
    assert "Rows to look at again 2 rows are doubted." in flat(again.text) and not again.open


def test_the_closing_table_names_the_worst_slice_that_has_rows() -> None:
    table = flat(closing_table(full(), {}, Path("report.html")))
    assert "worst slice region = north|south: 0.710 of 45 rows" in table
    assert "hamlet" not in table


def test_every_rule_and_number_is_a_short_tag() -> None:
    tags = judgement_tags(full())
    assert tags["test_sha256"] == "f" * 64 and tags["test_uses"] == "3"
    assert tags["gate.policy"] == "better" and tags["gate.margin"] == "0.01"
    assert tags["gate.new_rows.p_value"] == "0.5"
    assert tags["gate.rule.comparison"] == "holds: 0.0123, bound 0.05"
    assert tags["gate.rule.region_north_south"] == "fails: 0.71, bound 0.8"
    assert tags["gate.rule.region_north_south_"] == "holds: nothing measured, bound 0.8"
    assert tags["details.temperature"] == "1.5" and tags["cost.latency_ms"] == "4.5"
    assert all(re.fullmatch(r"[A-Za-z0-9_.]+", name) and len(value) <= 250 for name, value in tags.items())
    older = {"gate": {"verdict": "champion", "reasons": [], "champion": None, "p_value": None, "rows": 9}}
    assert judgement_tags(older) == {"gate.rows": "9"}


def test_a_long_card_is_cut_at_a_line_with_a_note() -> None:
    card = model_card(full())
    assert description(card) == card
    longer = card + "".join(f"- line {n} of many\n" for n in range(500))
    cut = description(longer)
    assert len(cut) <= 5000
    kept, _, note = cut.partition("\n\n…")
    assert longer.startswith(kept + "\n") and "model_card.md" in note
