"""A program that calls the library can tell whose fault an error is by its type."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from retrainer.data.sources import csv
from retrainer.errors import DataError, ModelError, ServiceError, SettingError, UserError
from retrainer.formats.model_files import read_model
from retrainer.resolve import parse_override
from retrainer.services import storage
from retrainer.settings import Source, Training
from tests.conftest import ROOT

KINDS = (SettingError, DataError, ModelError, ServiceError)
# Packages whose errors are always of a kind.
SORTED = ("data", "formats", "models", "registry", "services", "settings", "notify")


def test_a_wrong_setting_is_a_setting_error() -> None:
    with pytest.raises(SettingError, match=r"training\.epochs"):
        Training.parse({"epochs": "many"}, "training")
    with pytest.raises(SettingError, match="SET=epochs"):
        parse_override("epochs=3")


def test_a_wrong_row_is_a_data_error(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text('text,label\n"good,yes\n')
    with pytest.raises(DataError, match=r"rows\.csv"):
        list(csv.read(Source(kind="csv", path=str(file))))


def test_a_directory_that_is_no_model_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises((ModelError, DataError)):
        read_model(tmp_path)


def test_storage_that_does_not_answer_is_a_service_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises((ServiceError, SettingError), match="s3://bucket/rows"):
        storage.digest(Source(kind="csv", path="s3://bucket/rows.csv"))


@pytest.mark.parametrize("package", SORTED)
def test_no_error_is_left_without_a_kind(package: str) -> None:
    for file in (ROOT / "retrainer" / package).rglob("*.py"):
        raised = [
            node.exc.func.id
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Raise)
            and isinstance(node.exc, ast.Call)
            and isinstance(node.exc.func, ast.Name)
        ]
        assert "UserError" not in raised, file


def test_every_kind_is_caught_as_what_a_person_can_mend() -> None:
    assert all(issubclass(kind, UserError) and issubclass(kind, ValueError) for kind in KINDS)
