"""The page's own parts, without a browser: what is left out, what is painted, what is said and asked."""

from __future__ import annotations

import html
import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retrainer.errors import UserError
from retrainer.formats.audio import decode_audio, encode_wav
from retrainer.services.isolated import without_secrets
from retrainer.serving.occlusion import GRID, MOST_WORDS, STRETCHES, Squares, Stretches, Words
from retrainer.serving.page_process import words
from tests.conftest import ROOT
from tests.registered import png
from tests.try_page import PAGE, scoring, write_told

NASTY = "<script>alert(1)</script> *b* :smile: $x$"


def test_a_text_is_left_without_each_word_and_shown_as_it_is() -> None:
    parts = Words.of(f" a <b>good</b>\nfilm {NASTY}")
    assert parts.without[:2] == [
        f"  <b>good</b>\nfilm {NASTY}",
        f" a \nfilm {NASTY}",
    ]
    weights = [0.5, -1.0, *(0.0 for _ in parts.without[2:])]
    drawn = parts.drawn(weights)
    assert html.unescape(re.sub(r"<[^>]*>", "", drawn)) == parts.whole
    assert set(re.findall(r"<(\w+)", drawn)) == {"p", "span"}
    assert "rgb(42 91 215 / 0.30)" in drawn and "rgb(208 92 20 / 0.60)" in drawn
    assert len(Words.of("a " * 500).without) == MOST_WORDS
    assert Words.of("  ").without == [] and "<span" not in Words.of("  ").drawn([])


@pytest.mark.parametrize("size", [(3, 5), (40, 28), (300, 100)])
def test_a_picture_is_left_without_each_square(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    squares = Squares.of(png(pixels))
    assert max(squares.pixels.shape) <= 256 and len(squares.without) == GRID * GRID
    changed = np.zeros(squares.pixels.shape[:2], int)
    for other in squares.without:
        with Image.open(io.BytesIO(other)) as image:
            changed += (np.asarray(image) != squares.pixels).any(axis=2)
    assert changed.max() == 1 and changed.mean() > 0.9  # each pixel once, but for one of the mean's colour
    drawn = squares.drawn([1.0, *[0.0] * (GRID * GRID - 1)])
    assert max(drawn.size) > 128
    (left, *_, right) = np.asarray(drawn)[0].astype(int)
    whole = squares.pixels[0].astype(int)
    assert (right == whole[-1]).all() and (size == (3, 5) or (left != whole[0]).any())


def test_a_sound_is_left_without_each_stretch() -> None:
    samples = np.linspace(0.1, 0.9, 1000, dtype=np.float32)
    parts = Stretches.of(encode_wav(samples, 8000))
    silent = [decode_audio(data, "")[0] == 0 for data in parts.without]
    assert len(silent) == STRETCHES and (np.sum(silent, axis=0) == 1).all()
    assert parts.drawn([0.5] * STRETCHES).count("<i ") == STRETCHES
    with pytest.raises(UserError, match=r"^the sound lasts 31 s; why is told of 30 s at most$"):
        Stretches.of(encode_wav(np.ones(31_000, np.float32), 1000))


def test_what_is_no_picture_or_sound_is_refused() -> None:
    for kind, data in ((Squares, b"GIF89a"), (Squares, b""), (Stretches, b"RIFF"), (Stretches, b"")):
        with pytest.raises(UserError):
            kind.of(data)


def test_streamlit_is_told_to_ask_nobody_and_to_listen_here_alone() -> None:
    """The names of options are its own, so that another release of it does not ignore one."""
    from streamlit import config

    given = words("told.json", "127.0.0.1", "8081")
    options = dict(one.removeprefix("--").split("=") for one in given if "=" in one)
    known = config.get_config_options()
    assert not {*options} - {*known}
    assert options["browser.gatherUsageStats"] == "false" and options["server.address"] == "127.0.0.1"
    assert options["server.headless"] == "true" and options["server.fileWatcherType"] == "none"
    assert "--server.allowedHosts=127.0.0.1" in given
    assert not [one for one in words("told.json", "0.0.0.0", "8081") if "allowedHosts" in one]


def test_the_page_ends_with_its_parent(tmp_path: Path) -> None:
    """Also before Streamlit is there; a number that is nobody's is a parent that has gone."""
    module = ["retrainer.serving.page_process", str(tmp_path / "told.json"), "0", "127.0.0.1", "0"]
    command = [sys.executable, "-P", "-B", "-m", *module]
    assert subprocess.run(command, cwd=ROOT, timeout=60, env=without_secrets(tmp_path)).returncode == 0


# --- the page as Streamlit runs it, without a browser ---------------------------------------------------


@pytest.fixture
def run_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, dict[str, str]], Any]:
    from streamlit.testing.v1 import AppTest

    def run(asks: str, columns: dict[str, str]) -> Any:
        monkeypatch.setattr(sys, "argv", ["page.py", str(write_told(tmp_path, asks, columns))])
        return AppTest.from_file(PAGE, default_timeout=60).run()

    return run


def pressed(page: Any, text: str) -> Any:
    (button,) = [one for one in page.button if one.label == text]
    return button.click().run()


def test_every_kind_of_input_is_sent_as_the_server_wants_it(run_page: Callable[..., Any]) -> None:
    columns = {"a": "number", "b": "numbers", "c": "strings", "d": "string", NASTY: "image"}
    picture = png(np.zeros((4, 4, 3), np.uint8))
    with scoring(lambda _: {"value": [1.5, NASTY]}) as (asks, sent):
        page = pressed(run_page(asks, columns), "Ask")
        assert [one.value for one in page.text][-1] == "a: nothing is given" and not sent
        page.number_input[0].set_value(-2.5)
        for area, text in zip(page.text_area, ("1, 2e3", "x, y", NASTY), strict=True):
            area.set_value(text)
        page.file_uploader[0].set_value(("<b>.png", picture, "image/png"))
        page = pressed(page, "Ask")
        assert not page.error and not page.exception
        (row,) = sent[0]["dataframe_records"]
        assert [row[name] for name in "abcd"] == [-2.5, [1.0, 2000.0], ["x", "y"], NASTY]
        assert [one.value for one in page.text][-1] == NASTY  # the column's own name
        assert html.escape(NASTY, quote=False) in page.get("html")[-1].proto.body
        page.text_area[0].set_value("1, two")
        page = pressed(page, "Ask")
        assert "b: needed are numbers" in [one.value for one in page.text][-1] and len(sent) == 1


def test_errors_are_the_servers_own_words(run_page: Callable[..., Any]) -> None:
    def refuse(row: dict[str, Any]) -> dict[str, Any]:
        raise ValueError(f"row 0: {row['d']}")

    with scoring(refuse) as (asks, _):
        page = run_page(asks, {"d": "string"})
        page.text_area[0].set_value(NASTY)
        page = pressed(page, "Ask")
        assert [one.value for one in page.text][-1] == f"row 0: {NASTY}" and page.error
    page = pressed(page, "Ask")
    assert [one.value for one in page.text][-1].startswith("the server does not answer")
