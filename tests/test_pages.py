"""Every page in a real browser: nothing off-screen on a phone, readable in light and dark, whole on paper.

`make screens RECIPE=name` takes the pages of that recipe's last run instead, and writes docs/images.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.year.outcomes import CHALLENGER, HELD, NOTHING_NEW, PROMOTED, ROLLED_BACK, STOPPED
from benchmarks.year.page import render as render_year
from retrainer.evaluation.report import render
from retrainer.tasks import _speech_report, _translation_report
from tests.browser import Page, browser_page
from tests.conftest import ROOT
from tests.made_years import act, month, year
from tests.page_checks import DESKTOP, PHONE, opened, poor_contrasts, screen, structure, widths
from tests.raw_rows import run, words
from tests.reports import HISTORY, opposite, panels_of, report_of, told_of
from tests.try_page import ANSWER, READY, press

pytestmark = pytest.mark.slow

NAMES = ("report", "many", "speech", "findings", "year")
# What may be wider than a phone's screen, in a frame of its own: a matrix of many classes, and a listing.
MAY_SCROLL = {"heat", "listing"}
QUESTION = "why was the payment with my card declined at the shop on the corner yesterday evening"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses by name."""
    folder = tmp_path_factory.mktemp("pages")
    written = {"report": _report(3), "many": _report(16), "speech": _edits(), "year": _year()}
    run(folder, [*words(60), *({"text": f"{QUESTION} {n}", "labels": ["odd"]} for n in range(4))])
    written["findings"] = (folder / "findings/report.html").read_text()
    for name, content in written.items():
        (folder / f"{name}.html").write_text(content)
    return {name: (folder / f"{name}.html").as_uri() for name in written}


def _report(classes: int) -> str:
    told = told_of(tuple(f"a class with a long name {n}" for n in range(classes)), rows=300)
    note = "it does not know 'emu': 9 rows are wrong for it"
    report = report_of(told, champion=opposite(told), note=note)
    report["since"] = {"settings": ["training.epochs: 10 → 40"], "rows": [9000, 9500], "same_data": False}
    report["slices"] = [
        {"by": "region", "name": name, "rows": 40, "value": 0.8, "low": 0.7, "high": 0.9}
        for name in ("a", "b" * 60)
    ]
    return render(report, HISTORY, panels_of(told, report))


def _edits() -> str:
    """Panels that are tables of texts."""
    report = report_of(told_of(("a", "b")))
    edits = {
        kind: [{"from": "a" * 40, "to": "b", "count": 3}] for kind in ("substituted", "deleted", "inserted")
    }
    rates = {"word_error_rate": 0.25, "character_error_rate": 0.1}
    groups = [{"group": "speaker " * 9, "rows": 12} | rates]
    found = {"worst": [_sentence("w")], "best": [_sentence("b")]}
    shown = [_speech_report._drawn_groups(groups), _speech_report._drawn_edits(edits)]
    shown += [f"<section><h2>Texts</h2>{''.join(_translation_report._drawn(found))}</section>"]
    return render(report, HISTORY, shown)


def _sentence(word: str) -> dict[str, object]:
    return dict.fromkeys(("source", "reference", "prediction"), f"{word} " * 60) | {"chrf": 41.5}


def _year() -> str:
    kinds = (PROMOTED, NOTHING_NEW, HELD, CHALLENGER, STOPPED)
    names = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October")
    acts = [[act(kinds[n % 5], str(n), reason="for this reason, " * 9)] for n in range(10)]
    acts[3].append(act(ROLLED_BACK, "1", command='make rollback WHY="it was altered"'))
    months = [month(name, str(n), *acts[n], title="an attack on it") for n, name in enumerate(names)]
    return render_year(year(*months, history="a long line " * 20))


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser_page(tmp_path_factory.mktemp("browser")) as page:
        page.call("Page.enable")
        yield page


@pytest.mark.parametrize("name", NAMES)
def test_nothing_stands_out_of_the_screen(tab: Page, pages: dict[str, str], name: str) -> None:
    for size in (PHONE, (701, 850), DESKTOP):
        opened(tab, pages[name], size)
        found = widths(tab)
        assert found["page"] <= found["screen"] <= size[0] and not found["out"], (size, found)
        assert not found["frames"], "a frame that no key scrolls"
        if size == PHONE:
            assert set(found["scrolled"]) <= MAY_SCROLL, found


@pytest.mark.parametrize("name", NAMES)
def test_every_text_can_be_read_in_light_and_dark(tab: Page, pages: dict[str, str], name: str) -> None:
    for colours in ("light", "dark"):
        opened(tab, pages[name], DESKTOP, colours)
        assert not structure(tab)
        assert not poor_contrasts(tab, DESKTOP[0]), colours


@pytest.mark.parametrize("name", NAMES)
def test_a_page_on_paper_is_whole(tab: Page, pages: dict[str, str], name: str) -> None:
    """A4 between its margins has 703 pixels; a frame on paper cannot be scrolled."""
    opened(tab, pages[name], (703, 1000), "dark", paper=True)
    found = widths(tab)
    assert not found["out"] and found["page"] <= 703
    assert set(found["scrolled"]) <= {"heat"} if name == "many" else not found["scrolled"], found
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not poor_contrasts(tab, 703)


def test_the_first_screen_answers_the_five_questions(tab: Page, pages: dict[str, str]) -> None:
    opened(tab, pages["report"], DESKTOP)
    asked = tab.evaluate("[...document.querySelectorAll('.answers dt')].map((one) => one.innerText)")
    assert asked == ["Is it better?", "By how much?", "Is it safe to use?", "What changed?", "What to do?"]
    ends = "[...document.querySelectorAll('.answers dd')].at(-1).getBoundingClientRect().bottom"
    assert tab.evaluate(ends) < DESKTOP[1]
    opened(tab, pages["report"], PHONE)
    assert tab.evaluate(ends) < 1.25 * PHONE[1]


def test_screens(tab: Page, pages: dict[str, str], tmp_path: Path) -> None:
    """Of a recipe's run where SCREENS_OF names its folder: they are the pictures of docs/images."""
    chosen, out = pages, tmp_path
    if of := os.environ.get("SCREENS_OF"):
        chosen, out = _pages_of(ROOT / of), ROOT / "docs" / "images"
    for name, address in chosen.items():
        for size in (DESKTOP, PHONE):
            opened(tab, address, size)
            if name == "page" and (picture := os.environ.get("SCREENS_INPUT")):
                _ask(tab, Path(picture))
            screen(tab, out / f"{name}-{size[0]}.png")
    assert {f"{name}-390.png" for name in chosen} <= {path.name for path in out.iterdir()}


def _ask(tab: Page, picture: Path) -> None:
    """What the served model answers for the picture, and why."""
    tab.wait_for(f"{READY} && document.querySelector('input[type=file]') !== null")
    tab.upload("input[type=file]", picture)
    tab.wait_for("document.querySelector('img[alt=\"the picture\"]')?.complete")
    press(tab, "Ask")
    tab.wait_for(ANSWER)
    press(tab, "Why this answer?")
    tab.wait_for("document.querySelector('img[alt=\"the picture, coloured\"]')?.complete")
    tab.evaluate("document.querySelector('img[alt=\"the picture\"]').scrollIntoView()")


def _pages_of(run_folder: Path) -> dict[str, str]:
    """Of a run, of the last `make year` if there was one, and the page of `make serve` at SCREENS_PAGE."""
    files = {
        "report": run_folder / "report" / "report.html",
        "findings": run_folder / "findings" / "report.html",
        "year": ROOT / "build" / "year" / "year.html",
    }
    assert files["report"].is_file(), f"{files['report']} is missing: run `make pipeline` first"
    found = {name: path.as_uri() for name, path in files.items() if path.is_file()}
    served = os.environ.get("SCREENS_PAGE")
    return found | ({"page": served} if served else {})
