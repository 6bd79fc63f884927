"""The page to try a model by hand, in a real browser: a picture, a text, a spoken word; and why."""

from __future__ import annotations

import base64
import io
import json
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrainer.formats.dataset import Dataset
from retrainer.predict import Predictor
from retrainer.serving.page import page
from tests.browser import browser_page
from tests.champions import Project, in_a_copy
from tests.serving_process import served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]
ANSWER = "document.getElementById('answer').textContent"
ERROR = "document.getElementById('error').textContent"
ASK = "document.getElementById('ask').click()"
EXPLAIN = "document.getElementById('explain').click()"


@pytest.fixture
def project(three_versions: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return in_a_copy(three_versions, tmp_path, monkeypatch)


def test_a_picture_is_answered_as_by_the_model(project: Project) -> None:
    test = Dataset(project.dataset).split("test")
    expected = Predictor.load(project.folder / "model-1").predict(test)["label"].to_pylist()
    broken, picture = project.folder / "broken.png", project.folder / "picture.png"
    broken.write_bytes(b"no picture")
    with browser_page(project.folder) as tab, served(project.folder) as (_, port, __):
        tab.resize(390, 844)
        tab.open(f"http://127.0.0.1:{port}/")
        assert tab.evaluate("document.title") == "models:/net/2"
        tab.evaluate(ASK)
        assert tab.wait_for(ERROR) == "image: nothing is given"
        tab.upload("#in-image", broken)
        tab.wait_for("document.querySelector('#shown-image img') !== null")
        tab.evaluate(ASK)
        assert tab.wait_for(f"{ERROR}.startsWith('row 0') && {ERROR}")
        for row in range(3):
            picture.write_bytes(test["image"][row].as_py()["bytes"])
            tab.evaluate("document.getElementById('in-image').value = ''")
            before = tab.evaluate("document.querySelector('#shown-image img').src")
            tab.upload("#in-image", picture)
            tab.wait_for(f"document.querySelector('#shown-image img').src !== {before!r}")
            tab.evaluate(ASK)
            assert tab.wait_for(f"{ERROR} || {ANSWER}") == expected[row]
        tab.evaluate(EXPLAIN)
        assert tab.wait_for("document.querySelector('#why canvas')?.width ?? 0") == 8
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390


# --- texts and sounds, answered by a rule ---------------------------------------------------------------


def by_a_rule(row: dict[str, Any]) -> dict[str, Any]:
    """A text is good as far as it says so; a sound is loud as far as it is not silent."""
    if "review" in row:
        share = 0.9 if "good" in row["review"] else 0.2 if "bad" in row["review"] else 0.3
    else:
        share = min(1.0, float(np.abs(samples_of(row["speech"])).mean()) / 2000)
    names = ("good", "bad") if "review" in row else ("loud", "quiet")
    return {"label": names[share < 0.5], "probabilities": {names[0]: share, names[1]: 1 - share}}


def samples_of(text: str) -> np.ndarray:
    with wave.open(io.BytesIO(base64.b64decode(text))) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 16_000)
        return np.frombuffer(sound.readframes(sound.getnframes()), np.int16)


@contextmanager
def shown(columns: dict[str, str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The page on loopback, answered by the rule; its address, and each request that it sent."""
    sent: list[dict[str, Any]] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.say("text/html", page("models:/m/1", columns).encode())

        def do_POST(self) -> None:
            sent.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            found = {"predictions": [by_a_rule(row) for row in sent[-1]["dataframe_records"]]}
            self.say("application/json", json.dumps(found).encode())

        def say(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", sent
        server.shutdown()


def test_a_typed_text_is_sent_and_the_word_that_decides_is_painted(tmp_path: Path) -> None:
    with browser_page(tmp_path) as tab, shown({"review": "string"}) as (address, sent):
        tab.open(address)
        text = "a <b>good</b> film, not bad"
        tab.evaluate(
            f"{{const box = document.getElementById('in-review'); box.value = {text!r};"
            " box.dispatchEvent(new Event('input'))}"
        )
        tab.evaluate(ASK)
        assert tab.wait_for(ANSWER) == "good"
        assert sent[0] == {"dataframe_records": [{"review": text}], "params": {"top_k": 5}}
        assert tab.evaluate("document.getElementById('shares').innerText").split() == [
            *("good", "90.0%", "bad", "10.0%"),
        ]
        tab.evaluate(EXPLAIN)
        painted = tab.wait_for(
            "(marks => marks.length && marks.map(m => [m.textContent, m.title]))"
            "([...document.querySelectorAll('#why mark')])"
        )
        assert painted == [[word, "0.700" if "good" in word else "0.000"] for word in text.split()]
        assert tab.evaluate("document.querySelector('#why b')") is None


def test_a_spoken_word_is_sent_as_a_sound_file(tmp_path: Path) -> None:
    with browser_page(tmp_path) as tab, shown({"speech": "audio"}) as (address, sent):
        tab.open(address)
        speak = "document.getElementById('speak-speech')"
        tab.evaluate(f"{speak}.click()")
        tab.wait_for(f"{speak}.textContent === 'Stop'")
        tab.evaluate("new Promise(done => setTimeout(done, 1500))")
        tab.evaluate(f"{speak}.click()")
        tab.wait_for("document.querySelector('#shown-speech audio') !== null")
        tab.evaluate(ASK)
        assert tab.wait_for(f"{ERROR} || {ANSWER}") in ("loud", "quiet")
        samples = samples_of(sent[0]["dataframe_records"][0]["speech"])
        assert 0.5 < len(samples) / 16_000 < 30 and np.abs(samples).max() > 1000
        tab.evaluate(EXPLAIN)
        tab.wait_for("document.querySelectorAll('#why .bars i').length === 16")
        assert len(sent[1]["dataframe_records"]) == 17
