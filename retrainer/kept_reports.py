"""The reports of earlier runs, below runs/RECIPE/history: the newest ones, named by when and version.

    2026-11-27T08-31-38Z-v3/report/     the report as evaluate wrote it
    2026-11-27T08-31-38Z-v3/run.json    what it is of: version, alias then, commit, all settings of that run

No step reads or writes them, so DVC knows nothing of them: its outputs are the folders beside this one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from retrainer.formats.files import MANIFEST, whole_directory, write_json
from retrainer.formats.report import METRICS

FOLDER = "history"
MOST = 20
_REPORT, _ABOUT = "report", "run.json"


@dataclass(frozen=True)
class KeptReport:
    """`folder`/report is the report; `about` the content of run.json."""

    folder: Path
    about: Mapping[str, Any]

    @property
    def report(self) -> Path:
        return self.folder / _REPORT


def kept_reports(recipe_folder: Path) -> list[KeptReport]:
    """Those of runs/RECIPE, oldest first; not those of which a person has removed a part."""
    found = sorted((recipe_folder / FOLDER).glob(f"[!.]*/{_ABOUT}"))
    made = [KeptReport(path.parent, _read(path)) for path in found]
    return [one for one in made if all((one.report / name).is_file() for name in (MANIFEST, METRICS))]


def keep_report(
    recipe_folder: Path, settings: Mapping[str, Any] | None = None, git_commit: str = ""
) -> KeptReport | None:
    """Copies the report of runs/RECIPE as it is now; None where there is none, or it is kept already.

    `settings`, resolved, are those of its run, where they are known. Of more than MOST the oldest go.
    """
    report = recipe_folder / _REPORT
    if not (report / MANIFEST).is_file() or not (report / METRICS).is_file():
        return None
    digest, about = (report / MANIFEST).read_bytes(), _about(report, recipe_folder)
    for one in kept_reports(recipe_folder):
        if (one.report / MANIFEST).read_bytes() == digest:
            if one.about["version"] or not about["version"]:
                return None
            shutil.rmtree(one.folder)  # its model has been registered since
    about |= {"settings": settings, "git_commit": git_commit}
    folder = recipe_folder / FOLDER / _name(about)
    with whole_directory(folder) as aside:
        shutil.copytree(report, aside / _REPORT)
        write_json(aside / _ABOUT, about)
    _leave_newest(recipe_folder)
    return KeptReport(folder, about)


def _about(report: Path, recipe_folder: Path) -> dict[str, Any]:
    """When the report was written, and the version that it is of, if its model was registered."""
    written = datetime.fromtimestamp((report / METRICS).stat().st_mtime, UTC)
    about = {"format_version": 1, "when": written.isoformat(timespec="seconds"), "version": "", "alias": ""}
    registration = recipe_folder / "registration" / "registration.json"
    made = _read(registration) if registration.is_file() else {}
    if made.get("model_sha256") == _read(report / METRICS)["model_sha256"]:
        about |= {"version": str(made["version"]), "alias": made["alias"]}
    return about


def _name(about: Mapping[str, Any]) -> str:
    when = str(about["when"]).removesuffix("+00:00").replace(":", "-")
    return f"{when}Z-{'v' + about['version'] if about['version'] else 'unregistered'}"


def _leave_newest(recipe_folder: Path) -> None:
    """Also removes what a killed process left half copied."""
    for aside in (recipe_folder / FOLDER).glob(".*"):
        shutil.rmtree(aside, ignore_errors=True)
    for one in kept_reports(recipe_folder)[:-MOST]:
        shutil.rmtree(one.folder)


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
