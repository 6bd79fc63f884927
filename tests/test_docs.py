"""The documentation: it builds, its links lead somewhere, and a tutorial's commands do what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.project import environment, make_project

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")])
TUTORIALS = sorted((ROOT / "docs" / "tasks").glob("*.md"))
_LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)")
_COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SMOKE = re.compile(r"^make smoke (RECIPE=\w+)\n(?=make pipeline \1$)", re.MULTILINE)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Strict: a page outside the navigation, a dead link or a dead anchor is an error."""
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in TUTORIALS} == {
        f"{path.stem}.md" for path in (tmp_path / "tasks").glob("*.html")
    }
    # Everything that a page loads comes with it.
    loaded = [
        found
        for page in tmp_path.rglob("*.html")
        for found in re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"(https?:[^\"]+)", page.read_text())
    ]
    assert not loaded


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_a_file_of_the_repository(page: Path) -> None:
    dead = [link for link in _LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not dead


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs_as_written(page: Path, tmp_path: Path) -> None:
    """Every block of shell commands, in order, in a copy of the project whose environment is this one.

    What `make smoke` does on 50 rows, `make pipeline` does next on all: the first page alone runs both.
    """
    project = make_project(tmp_path / "project")
    (project / ".venv").symlink_to(ROOT / ".venv")
    for commands in _COMMANDS.findall(page.read_text()):
        if page != TUTORIALS[0]:
            commands = _SMOKE.sub("", commands)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=project,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
