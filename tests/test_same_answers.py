"""One model, one answer: by whichever door it is asked."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrainer.__main__ import main
from retrainer.champion import load_champion
from retrainer.export.command import Request, export
from retrainer.settings import Registry
from tests.champions import NAME, Project, files_of, in_a_copy
from tests.exports import ABSENT, answers_without
from tests.predicting import PLAIN, read_lines
from tests.registered import png
from tests.serving_process import ask, served
from tests.try_page import PAGE, write_told

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
    pytest.mark.usefixtures("torch_settings_restored"),
]
# Of a probability. The page shows a tenth of a percent; `make predict` writes six digits.
TOLERANCE, ON_THE_PAGE = 1e-5, 5.1e-4
# What a program that uses a registered image model's own files need not have.
NOT_IN_USE = {"mlflow", "pandas", "sklearn", "scipy", "tqdm", "torchvision", "transformers", "timm", "yaml"}
Answers = list[tuple[str, float]]


@pytest.fixture
def project(three_versions: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return in_a_copy(three_versions, tmp_path, monkeypatch)


@pytest.fixture
def pictures(project: Project) -> list[bytes]:
    """200 of them, also as files in the folder `new`."""
    draw = np.random.default_rng(5)
    made = [png(draw.integers(0, 256, (8, 8), np.uint8)) for _ in range(200)]
    (project.folder / "new").mkdir()
    for number, content in enumerate(made):
        (project.folder / "new" / f"{number:03}.png").write_bytes(content)
    return made


def best(rows: list[dict[str, Any]]) -> Answers:
    return [(row["label"], max(row["probabilities"].values())) for row in rows]


def from_python(pictures: list[bytes]) -> Answers:
    return [(row["prediction"], row["confidence"]) for row in load_champion().predict(pictures)]


def from_the_command(folder: Path) -> Answers:
    assert main(["predict", "--input", "new", "--output", "out.jsonl"]) == 0
    return [(row["prediction"], row["confidence"]) for row in read_lines(folder / "out.jsonl")]


def from_pyfunc(pictures: list[bytes]) -> Answers:
    from mlflow.pyfunc import load_model

    model = load_model(str(files_of("2").resolve()), suppress_warnings=True)
    return best(model.predict({"image": pictures}).to_dict("records"))


def from_registered_files(pictures: list[bytes]) -> Answers:
    """By the `use_me.py` of the version's own files."""
    return best(answers_without(NOT_IN_USE, files_of("2").resolve(), pictures))


def from_export(folder: Path, dataset: Path, pictures: list[bytes]) -> Answers:
    sections = PLAIN._replace(registry=Registry(name=NAME))
    export(Request(sections, "onnx", dataset, folder / "onnx"))
    assert json.loads((folder / "onnx" / "export.json").read_text())["model"]["version"] == "2"
    return best(answers_without(ABSENT, folder / "onnx", pictures))


def from_server_and_page(folder: Path, pictures: list[bytes]) -> tuple[Answers, Answers]:
    coded = [base64.b64encode(picture).decode() for picture in pictures]
    with served(folder) as (_, port, __):
        status, answer = ask(port, {"dataframe_records": [{"image": picture} for picture in coded]})
        assert status == 200
        told = write_told(folder, f"http://127.0.0.1:{port}", {"image": "image"})
        return best(answer["predictions"]), from_the_page(told, pictures)


def from_the_page(told: Path, pictures: list[bytes]) -> Answers:
    """As Streamlit runs it, without a browser: each picture is chosen, and its button is pressed."""
    from streamlit.testing.v1 import AppTest

    sys.argv[1:] = [str(told)]
    page, found = AppTest.from_file(PAGE, default_timeout=60).run(), []
    for number, picture in enumerate(pictures):
        page.file_uploader[0].set_value((f"{number}.png", picture, "image/png"))
        page.button[0].click()
        page.run()
        assert not page.error and not page.exception
        shown = page.get("html")[1].proto.body  # below the title
        ((label, percent),) = re.findall(r"<h2.*?>(.*?)</h2>.*?<span>(.*?)%</span>", shown, re.S)
        found.append((label, float(percent) / 100))
    return found


def assert_same(found: Answers, expected: Answers, tolerance: float) -> None:
    assert [label for label, _ in found] == [label for label, _ in expected]
    np.testing.assert_allclose([p for _, p in found], [p for _, p in expected], rtol=0, atol=tolerance)


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="needs the extra 'export'")
def test_all_doors_agree_on_200_inputs(
    project: Project, pictures: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The champion: in Python, as a command, by MLflow's pyfunc, by its registered files alone, as ONNX, over
    HTTP, on the page."""
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.setattr("sys.argv", list(sys.argv))
    expected = from_python(pictures)
    assert len(expected) == 200 and len({label for label, _ in expected}) > 1
    server, page = from_server_and_page(project.folder, pictures)
    for found in (
        from_the_command(project.folder),
        from_pyfunc(pictures),
        from_registered_files(pictures),
        from_export(project.folder, project.dataset, pictures),
        server,
    ):
        assert_same(found, expected, TOLERANCE)
    assert_same(page, expected, ON_THE_PAGE)
