"""The page to try a model by hand, in a real browser: a picture, a text, a spoken word; and why."""

from __future__ import annotations

import base64
import http.client
import io
import re
import wave
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from retrainer.formats.dataset import Dataset
from retrainer.predict import Predictor
from tests.browser import Page, browser_page
from tests.champions import Project, in_a_copy
from tests.page_checks import DESKTOP, PHONE, opened, poor_contrasts, structure, widths
from tests.serving_process import served
from tests.try_page import ANSWER, ERROR, IDLE, READY, TITLE, Shown, press, shown

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]
FILE = "input[type=file]"
NASTY = "*bad* :smile: <b>x</b> a -> b $y$ [z](http://z.example)"


@pytest.fixture
def project(three_versions: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return in_a_copy(three_versions, tmp_path, monkeypatch)


def test_a_picture_is_answered_as_by_the_model(project: Project) -> None:
    """Beside a real server, with which the page ends."""
    test = Dataset(project.dataset).split("test")
    expected = Predictor.load(project.folder / "model-1").predict(test)["label"].to_pylist()
    broken = project.folder / "broken.png"
    broken.write_bytes(b"no picture")
    with browser_page(project.folder) as tab, served(project.folder, page=True) as (process, _, printed):
        (address,) = re.findall(r"^(http://127\.0\.0\.1:\d+) shows a page", "\n".join(printed), re.M)
        (page,) = psutil.Process(process.pid).children()
        listening = {one.laddr.ip for one in page.net_connections() if one.status == "LISTEN"}
        assert listening == {"127.0.0.1"}
        opened(tab, f"{address}/", PHONE)
        tab.wait_for(READY)
        assert tab.wait_for("document.title === 'models:/net/2'")
        press(tab, "Ask")
        assert tab.wait_for(ERROR) == "image: nothing is given"
        tab.wait_for(f"document.querySelector('{FILE}') !== null")
        tab.upload(FILE, broken)
        tab.wait_for("document.body.innerText.includes('cannot be shown')")
        press(tab, "Ask")
        tab.wait_for(f"{ERROR}.startsWith('row 0')")
        for row in range(2):
            picture = project.folder / f"picture{row}.png"
            picture.write_bytes(test["image"][row].as_py()["bytes"])
            tab.upload(FILE, picture)
            tab.wait_for(f"document.body.innerText.includes({picture.name!r})")
            tab.wait_for(f"document.querySelector('img[alt=\"the picture\"]') && !({ERROR} || {ANSWER})")
            press(tab, "Ask")
            assert tab.wait_for(f"{ERROR} || {ANSWER}") == expected[row]
        press(tab, "Why this answer?")
        coloured = "document.querySelector('img[alt=\"the picture, coloured\"]')"
        assert tab.wait_for(f"{coloured}?.complete && {coloured}.naturalWidth") == 256
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        process.kill()
        assert not psutil.wait_procs([page], timeout=30)[1]


# --- texts and sounds, answered by a rule ---------------------------------------------------------------


def by_a_rule(row: dict[str, Any]) -> dict[str, Any]:
    """A text is good as far as it says so; a sound is loud as far as it is not silent."""
    if "review" in row:
        share = 0.9 if "good" in row["review"] else 0.2 if "bad" in row["review"] else 0.3
    else:
        share = min(1.0, float(np.abs(samples_of(row["speech"])).mean()) / 2000)
    names = (NASTY, "bad") if "review" in row else ("loud", "quiet")
    return {"label": names[share < 0.5], "probabilities": {names[0]: share, names[1]: 1 - share}}


def samples_of(text: str) -> np.ndarray:
    with wave.open(io.BytesIO(base64.b64decode(text))) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 16_000)
        return np.frombuffer(sound.readframes(sound.getnframes()), np.int16)


def test_a_typed_text_is_sent_and_the_word_that_decides_is_painted(tmp_path: Path) -> None:
    text = "a <b>good</b> film, not bad"
    with browser_page(tmp_path) as tab, shown(tmp_path, {"review": "string"}, by_a_rule) as page:
        opened(tab, page.address, DESKTOP)
        tab.wait_for(READY)
        assert tab.evaluate("document.querySelector('h1').innerText") == TITLE
        tab.wait_for("document.querySelector('textarea') !== null")
        tab.evaluate("document.querySelector('textarea').focus()")
        tab.call("Input.insertText", text=text)
        press(tab, "Ask")
        assert tab.wait_for(ANSWER) == NASTY
        assert page.sent[0] == {"dataframe_records": [{"review": text}], "params": {"top_k": 5}}
        tab.wait_for(IDLE)
        shares = "[...document.querySelectorAll('.shares > :not(meter)')].map((one) => one.innerText)"
        assert tab.evaluate(shares) == [NASTY, "90.0%", "bad", "10.0%"]
        bars = "[...document.querySelectorAll('.shares meter')].map((one) => [one.ariaLabel, one.value])"
        assert tab.evaluate(bars) == [[f"{NASTY}: 90.0%", 0.9], ["bad: 10.0%", pytest.approx(0.1)]]
        press(tab, "Why this answer?")
        painted = "[...document.querySelectorAll('.stHtml span[title]')]"
        words = tab.wait_for(f"{painted}.length && {painted}.map((one) => [one.innerText, one.title])")
        assert words == [[word, "0.700" if "good" in word else "0.000"] for word in text.split()]
        assert tab.evaluate("document.querySelector('.stHtml b')") is None
        check_looks(tab)
        check_company(tab, page)


def check_looks(tab: Page) -> None:
    """On a desk and on a phone, by day and by night."""
    assert not structure(tab)
    for size, colours in ((DESKTOP, "light"), (PHONE, "dark")):
        scheme = [{"name": "prefers-color-scheme", "value": colours}]
        tab.call("Emulation.setEmulatedMedia", features=scheme)
        tab.resize(*size)
        tab.wait_for(IDLE)
        found = widths(tab)
        assert found["page"] <= found["screen"] <= size[0] and not found["out"], found
        assert not poor_contrasts(tab, size[0]), colours
        ground = tab.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (colours == "light")


def check_company(tab: Page, page: Shown) -> None:
    """The browser loads from the page's address alone; its process calls the scoring server alone, also where
    a page of another site comes to it, and leaves no file."""
    origins = "[...new Set(performance.getEntriesByType('resource').map((one) => new URL(one.name).origin))]"
    assert tab.evaluate(origins) == [page.address.rstrip("/")]
    assert foreign_status(page.address, Origin="http://a.example") == 403
    assert foreign_status(page.address, Host="a.example") == 403
    called = set(page.calls.read_text().splitlines())
    # Connecting a datagram socket sends nothing; where the proxy should be, nobody listens.
    quiet = {"('8.8.8.8', 1)", "('127.0.0.1', 9)", "127.0.0.1"}
    assert called - quiet == {f"('127.0.0.1', {page.asks.rpartition(':')[2]})"}
    assert not [path for path in (page.calls.parent / "home").rglob("*") if path.is_file()]


def foreign_status(address: str, **headers: str) -> int:
    """Of a WebSocket that is asked for with these headers."""
    connection = http.client.HTTPConnection(address.split("/")[2], timeout=60)
    asked = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    asked["Sec-WebSocket-Key"] = base64.b64encode(bytes(16)).decode()
    connection.request("GET", "/_stcore/stream", headers=asked | headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_spoken_word_is_sent_as_a_sound_file(tmp_path: Path) -> None:
    with browser_page(tmp_path) as tab, shown(tmp_path, {"speech": "audio"}, by_a_rule) as page:
        opened(tab, page.address, DESKTOP)
        tab.wait_for(READY)
        speak = "document.querySelector('[data-testid=stAudioInputActionButton]')"
        tab.wait_for(f"{speak} !== null")
        tab.evaluate(f"{speak}.click()")
        tab.wait_for(f"{speak}?.ariaLabel === 'Stop recording'")
        tab.evaluate("new Promise(done => setTimeout(done, 1500))")
        tab.evaluate(f"{speak}.click()")
        tab.wait_for("document.querySelector('audio') !== null")
        press(tab, "Ask")
        assert tab.wait_for(f"{ERROR} || {ANSWER}") in ("loud", "quiet")
        samples = samples_of(page.sent[0]["dataframe_records"][0]["speech"])
        assert 0.5 < len(samples) / 16_000 < 30 and np.abs(samples).max() > 1000
        press(tab, "Why this answer?")
        tab.wait_for("document.querySelectorAll('.stHtml i[title]').length === 16")
        assert len(page.sent[1]["dataframe_records"]) == 17
