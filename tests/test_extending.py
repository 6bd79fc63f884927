"""docs/extending.md, "A step more", done to the letter in a copy of the project."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.spec import tasks_in
from tests.conftest import ROOT
from tests.project import RECIPE, environment, make_project, pipeline, run, steps

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
IMAGE = "registry.example/own@sha256:" + "a" * 64


def insert_after(file: Path, line: str, text: str) -> None:
    """`text` below the last line that holds `line`."""
    lines = file.read_text().splitlines(keepends=True)
    place = max(number for number, each in enumerate(lines) if line in each)
    file.write_text("".join([*lines[: place + 1], text, *lines[place + 1 :]]))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the page's own step in it."""
    folder = make_project(tmp_path_factory.mktemp("more") / "project")
    page = (ROOT / "docs" / "extending.md").read_text().partition("## A step more")[2]
    function, entry, stage, task = re.findall(r"```\w+\n(.*?)```", page, re.DOTALL)
    (folder / "components" / "announce.py").write_text(function)
    insert_after(folder / "components" / "steps.py", '"register": Facts(', entry)
    with (folder / "dvc.yaml").open("a") as file:
        file.write(f"\n{stage}")
    insert_after(folder / "pipelines" / "kubeflow.py", 'run("register")', task)
    return folder


def test_dvc_runs_it_and_its_code_is_its_own(project: Path) -> None:
    assert list(steps(pipeline(project)).values()) == ["ran"] * 5
    made = project / "runs" / RECIPE / "announcement" / "announcement.txt"
    assert made.read_text() == f"{RECIPE}: champion\n"
    component = project / "components" / "announce.py"
    component.write_text("# a comment\n" + component.read_text())
    assert "Nothing to do" in pipeline(project)
    component.write_text(component.read_text().replace(": {verdict}", " is {verdict}"))
    assert "── announce" in pipeline(project)
    assert made.read_text() == f"{RECIPE} is champion\n"
    python_calls_it(project)


def python_calls_it(project: Path) -> None:
    """On the report that the pipeline has made: a test of its own could run where there is none."""
    code = f"""
from pathlib import Path
from components.announce import announce
from retrainer.settings import Registry
made = announce(Path("runs/{RECIPE}/report"), Path("announced"), Registry(name="mine"))
assert made == {{"announcement": {{"verdict": "champion"}}}}, made
assert Path("announced/announcement.txt").read_text().startswith("mine")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_clusters_pipeline_has_it(project: Path) -> None:
    given = ["--image", IMAGE, "--light-image", IMAGE, "--secret", "team"]
    printed = run(project, "compile", "--recipe", RECIPE, *given, "--set", "cluster.image_holds=[data]")
    spec, *_ = yaml.safe_load_all((project / printed.strip().removeprefix("written: ")).read_text())
    task = tasks_in(spec)["announce"]
    assert task["cachingOptions"] == {"enableCache": True}
    assert task["inputs"]["artifacts"]["report"]["taskOutputArtifact"]["producerTask"] == "evaluate"


def test_the_tests_of_the_doors_hold_with_it(project: Path) -> None:
    shutil.copytree(ROOT / "tests", project / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", project)
    chosen = "signatures or everywhere or own or same_command or types or pure or depends"
    command = [sys.executable, "-m", "pytest", "-vv", "-k", chosen, "tests/test_doors.py"]
    done = subprocess.run(
        [*command, "tests/test_contract.py"], cwd=project, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert "[announce] PASSED" in done.stdout
