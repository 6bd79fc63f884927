"""A version that was registered before report format 2: compared with, compared, promoted, rolled back to.

tests/golden/version-of-report-1.tar.gz holds it as commit 37d0423 made it: the registered files, their tags,
and the report.
"""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import pytest

from retrainer.__main__ import main
from retrainer.errors import UserError
from retrainer.formats.report import read_report
from retrainer.registry.history import moves
from retrainer.registry.promote import promote, rollback
from retrainer.registry.register import register_model
from retrainer.services import lookup
from retrainer.services.connection import client, experiment_id
from tests.champions import NAME, NET, PARAMS, Project, own_environment, set_verdict
from tests.conftest import ROOT
from tests.registered import image_dataset

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(ROOT / "tests/golden/version-of-report-1.tar.gz") as files:
        files.extractall(folder, filter="data")
    return folder


@pytest.fixture
def project(older: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The older version is the champion."""
    own_environment(monkeypatch, tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS + "compute: {device: cpu}\n")
    mlflow = client()
    logged = mlflow.create_logged_model(experiment_id(mlflow), name=NAME)
    mlflow.log_model_artifacts(logged.model_id, str(older / "bundle"))
    mlflow.finalize_logged_model(logged.model_id, "READY")
    mlflow.create_registered_model(NAME)
    tags = json.loads((older / "tags.json").read_text())
    mlflow.create_model_version(NAME, logged.model_uri, tags=tags, model_id=logged.model_id)
    mlflow.set_registered_model_alias(NAME, "champion", "1")
    return Project(tmp_path, image_dataset(tmp_path / "runs/net/dataset"))


@pytest.mark.slow  # registers, compares and rolls back in processes of their own
def test_an_older_versions_model_can_be_compared_and_rolled_back_to(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    model, report = project.candidate(1)
    told = read_report(report)
    assert told["champion"]["version"] == "1" and told["champion"]["compared"]
    assert told["gate"]["compared_rows"] == 12
    set_verdict(report, "champion")
    made = register_model(model, report, project.folder / "registration", NET)
    assert (made["version"], made["alias"]) == ("2", "champion")
    assert main(["compare", "1", "2"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^accuracy +0\.\d+ \(", out, re.M) and re.search(
        r"^verdict +champion +champion$", out, re.M
    )
    (project.dataset / "manifest.json").unlink()
    assert main(["compare", "1", "2"]) == 0
    stored = capsys.readouterr().out
    assert re.search(r"^calibration\.error +0\.\d+ +–$", stored, re.M)
    assert re.search(r"^gate\.accuracy +0\.\d+ +–$", stored, re.M)
    assert re.search(r"^gate\.value +– +0\.\d+$", stored, re.M)
    assert rollback(NAME, "").startswith("version 1 is champion of 'net' (version 2 was;")
    assert promote(NAME, "2", "").startswith("version 2 is champion")
    assert promote(NAME, "1", "").startswith("version 1 is champion")
    assert lookup.state(NAME)["champion"] == "1"
    assert [move.how for move in moves(NAME)] == ["register", "rollback", "promote", "promote"]


def test_an_older_versions_report_is_refused_with_the_cure(older: Path, project: Project) -> None:
    model, _ = project.candidate(1)
    with pytest.raises(UserError, match=r"earlier version \(report format 1\); run evaluate again"):
        register_model(model, older / "report", project.folder / "registration", NET)
