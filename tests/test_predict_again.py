"""`make predict` that is killed and run again, and the model that it loads from a registry."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrainer.__main__ import main
from retrainer.batch_prediction import command
from retrainer.batch_prediction.command import Request, predict
from retrainer.batch_prediction.model import LoadedModel, load_model
from retrainer.batch_prediction.scoring import Scorer
from retrainer.champion import load_champion
from retrainer.errors import ModelError
from tests.champions import NAME, Project, files_of, in_a_copy, own_environment
from tests.conftest import ROOT, first_quick
from tests.predicting import PLAIN, read_csv, read_lines, rows_of, sentences, text_model, write_csv
from tests.registered import png

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("texts")
    return load_model(PLAIN, model=text_model(folder))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_environment(monkeypatch, tmp_path)


# --- killed, and run again -------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", first_quick(["parquet", "csv", "jsonl"]))
def test_a_stopped_run_goes_on_with_the_same_bytes(
    texts: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    said = sentences(6200)
    said[10] = said[5000] = ""
    write_csv(tmp_path / "new.csv", rows_of(said))
    predict(Request(texts, "new.csv", f"whole.{ending}"))
    score, scored = Scorer.score, []

    def stopping(self: Scorer, window: Any) -> Any:
        scored.append(window.origins[0])
        if len(scored) == 3:
            raise KeyboardInterrupt
        return score(self, window)

    monkeypatch.setattr(Scorer, "score", stopping)
    with pytest.raises(KeyboardInterrupt):
        predict(Request(texts, "new.csv", f"out.{ending}"))
    assert not (tmp_path / f"out.{ending}").exists()
    # What stands behind the note is half a window.
    with (tmp_path / f".out.{ending}.part").open("ab") as part:
        part.write(b"half a row")
    lines = predict(Request(texts, "new.csv", f"out.{ending}"))
    assert any("behind row 4,096" in line for line in lines)
    assert scored[2:] == [f"new.csv:row {row}" for row in (4097, 4097, 6145)]
    for name in (f"out.{ending}", f"out.{ending}.rejected.jsonl"):
        assert (tmp_path / name).read_bytes() == (tmp_path / name.replace("out", "whole")).read_bytes()
    about = [json.loads((tmp_path / f"{name}.{ending}.json").read_text()) for name in ("out", "whole")]
    assert about[0] == about[1]


def test_another_input_or_model_begins_anew(
    texts: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path / "new.csv", rows_of(sentences(2100)))
    with monkeypatch.context() as patch:
        patch.setattr(command, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            predict(Request(texts, "new.csv", "out.csv"))
    again = predict(Request(texts, "new.csv", "out.csv", top_k=2))
    assert not any("went on" in line for line in again)
    assert "top_k" in read_csv(tmp_path / "out.csv")[0]


@pytest.mark.slow
def test_a_killed_process_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    """kill -9 as soon as a window is written, twice."""
    model = text_model(tmp_path)
    write_csv(tmp_path / "new.csv", rows_of(sentences(24_000)))
    words = [sys.executable, "-m", "retrainer", "predict", "--input", "new.csv", "--model", str(model)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def started(out: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*words, "--output", out], cwd=tmp_path, env=environment)

    assert started("whole.csv").wait(120) == 0
    note, seen = tmp_path / ".out.csv.part.json", 0
    for _ in range(2):
        process = started("out.csv")
        while process.poll() is None and windows(note) <= seen:
            pass
        assert process.poll() is None, "it ended before it could be killed"
        process.kill()
        process.wait()
        seen = windows(note)
    assert started("out.csv").wait(120) == 0 and seen >= 2
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def windows(note: Path) -> int:
    try:
        return int(json.loads(note.read_text())["progress"]["windows"])
    except (OSError, ValueError):
        return 0


# --- which model -----------------------------------------------------------------------------------------


@pytest.fixture
def registry(three_versions: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    yield in_a_copy(three_versions, tmp_path, monkeypatch)


@pytest.mark.usefixtures("torch_settings_restored")
def test_pyfunc_the_command_and_python_agree(
    registry: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On 200 inputs, by the champion; a version's number, an alias and a directory choose another."""
    from mlflow.pyfunc import load_model as load_pyfunc

    draw = np.random.default_rng(5)
    pictures = [png(draw.integers(0, 256, (8, 8), np.uint8)) for _ in range(200)]
    (registry.folder / "new").mkdir()
    for number, content in enumerate(pictures):
        (registry.folder / "new" / f"{number:03}.png").write_bytes(content)
    champion = load_champion()
    by_python = champion.predict(pictures)
    assert champion.version == "2" and {row["model_version"] for row in by_python} == {"2"}
    assert main(["predict", "--input", "new", "--output", "out.jsonl"]) == 0
    assert f"the champion, version 2 of {NAME}" in capsys.readouterr().out
    by_command = read_lines(registry.folder / "out.jsonl")
    assert [{k: v for k, v in row.items() if k != "origin"} for row in by_command] == by_python
    monkeypatch.setattr("sys.path", list(sys.path))
    served = load_pyfunc(str(files_of("2").resolve()), suppress_warnings=True).predict({"image": pictures})
    for mine, (label, shares) in zip(by_python, served.to_numpy(), strict=True):
        assert mine["prediction"] == label and mine["confidence"] == pytest.approx(
            max(shares.values()), abs=2e-6
        )
    digests = [load_champion(version=which).model_sha256 for which in ("2", "1", "3", "challenger")]
    assert digests[0] == champion.model_sha256 and len(set(digests)) == 3 and digests[2] == digests[3]
    assert load_champion(model=files_of("1") / "artifacts/model").model_sha256 == digests[1]
    for which, words in (("9", "no version 9 of net"), ("fallback", "no fallback of net")):
        with pytest.raises(ModelError, match=words):
            load_champion(version=which)
