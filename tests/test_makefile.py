"""The Makefile: what `make help` lists is what there is, each target once."""

from __future__ import annotations

import re
import subprocess

from tests.conftest import ROOT


def test_every_target_is_there_once_and_declared() -> None:
    text = (ROOT / "Makefile").read_text()
    listed = re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE)
    declared = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    assert declared and sorted(listed) == sorted(declared[1].replace("\\", " ").split())


def test_make_has_nothing_to_warn_about() -> None:
    """GNU make only warns of two recipes for one target, and takes the later."""
    done = subprocess.run(
        ["make", "-n", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
