"""The isolated process: begun ahead or not, it does its work once and is gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil
import pytest

from retrainer.services.isolated import Failed, begun, run_isolated

SCRIPT = """
import json, os, sys, time
from pathlib import Path
imported = [name for name in sys.argv[2:] if __import__(name)]
into, seconds = json.loads(sys.stdin.readline())
time.sleep(seconds)
known = {name: os.environ.get(name) for name in ("RETRAINER_SIGNING_KEY", "HF_HUB_OFFLINE", "COLOUR")}
told = {"pid": os.getpid(), "parent": int(sys.argv[1]), "imported": imported, "known": known}
Path(into).write_text(json.dumps(told | {"files": os.listdir(), "path": sys.path}))
sys.exit(os.environ.get("WRONG"))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    return file


def told(script: Path, seconds: float = 0.0, timeout: float = 20.0) -> dict[str, Any]:
    into = script.with_name("told.json")
    run_isolated(script, [str(into), seconds], timeout)
    return dict(json.loads(into.read_text()))


def children() -> list[int]:
    """Those that run the script; other tests may have left servers of their own."""
    return [child.pid for child in psutil.Process().children() if "script.py" in " ".join(child.cmdline())]


def test_what_is_begun_has_imported_and_serves_one_call(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLOUR", "then")
    with begun(script, ["csv"]):
        (ahead,) = children()
        with begun(script, ["xml"]):  # the outer one serves
            assert children() == [ahead]
        monkeypatch.setenv("COLOUR", "now")
        first, second = told(script), told(script)
    assert (first["pid"], first["imported"]) == (ahead, ["csv"])
    assert second["pid"] != ahead and second["imported"] == []
    assert [found["known"]["COLOUR"] for found in (first, second)] == ["then", "now"]
    assert children() == []


def test_a_check_that_nobody_asks_for_is_ended(script: Path) -> None:
    with pytest.raises(ZeroDivisionError), begun(script, []):
        assert len(children()) == 1
        raise ZeroDivisionError
    assert children() == []


def test_the_check_sees_no_file_of_ours_no_checkout_and_no_key(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRAINER_SIGNING_KEY", "private")
    found = told(script)
    assert found["files"] == [] and str(Path.cwd()) not in found["path"]
    assert found["known"]["RETRAINER_SIGNING_KEY"] is None
    assert found["known"]["HF_HUB_OFFLINE"] == "1"


def test_the_last_line_of_a_failed_check_is_the_reason_given(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRONG", "the reason")
    with pytest.raises(Failed, match=r"^the reason$"):
        told(script)


def test_one_that_takes_too_long_is_ended(script: Path) -> None:
    with pytest.raises(Failed, match="no answer within 1 s"):
        told(script, seconds=60, timeout=1)
    assert children() == []
