"""Settings that hold a secret are refused where they are settled; others are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retrainer.errors import SettingError
from retrainer.resolve import resolve, settle
from retrainer.services.secrets import refuse_secrets
from tests.conftest import ROOT

SECRET = "s3cr3t-Canary/77"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return tmp_path


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("training.command", f"python train.py --api-key {SECRET}"),
        ("training.command", f"python train.py --token={SECRET} --epochs 3"),
        ("training.command", f"env WANDB_API_KEY={SECRET} python train.py"),
        ("training.command", f"python train.py --store postgresql://ann:{SECRET}@db/x"),
        ("training.command", f"python train.py '--db=mssql:///?odbc_connect=PWD%3D{SECRET}'"),
        ("source.path", f"https://bucket/rows.csv?X-Amz-Signature={SECRET}"),
        ("source.dsn", f"postgresql://ann:{SECRET}@db/x"),
        ("source.password", SECRET),
        ("backbone.weights", f"https://ann:{SECRET}@hub/w.safetensors"),
        ("training.command", f"env PGPASSWORD={SECRET} python train.py"),
        ("training.command", f"bash -c 'python train.py --hfToken {SECRET}'"),
        ("training.command", f"python train.py --header 'X-Auth=Bearer {SECRET}'"),
        ("source.tables", f"[postgresql://ann:{SECRET}@db/x]"),
        ("source.db_pass", SECRET),
        ("source.account_key", SECRET),
        ("source.dsn", f"host=db password={SECRET}"),
    ],
)
def test_a_secret_is_refused_by_its_setting_and_not_shown(project: Path, setting: str, value: str) -> None:
    with pytest.raises(SettingError, match=rf"^{setting}: a password or token") as caught:
        settle(None, [f"{setting}={value}"], project)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "command",
    [
        "python train.py --pad-token '<pad>' --max-tokens 100 --tokenizer bert-base --key 3",
        "python train.py --token-file /run/secrets/token.txt --api-key $KEY --password-prompt",
        "python train.py --hub http://hub:8080/net@champion --git ssh://git@host/data.git",
        "python train.py --data hdfs://namenode:8020/data/2024@v1 --image oci://reg:5000/img@sha256:ab",
        "python train.py --api 'https://h/api?keyword=cats&design=3&max_tokens=5' --stop-token '</s>'",
        "python train.py --token secrets/token.txt --hub-token ~/.tok --password ${PW} --pass-through 3",
    ],
)
def test_what_only_looks_alike_is_taken(command: str) -> None:
    assert not is_refused({"training": {"command": command}})
    assert is_refused({"training": {"command": f"{command} --token {SECRET}"}})


def test_a_number_is_a_password_and_no_token() -> None:
    assert is_refused({"source": {"password": 123456}}) and not is_refused({"source": {"token": 123456}})


def test_a_column_or_a_sign_may_be_called_a_token() -> None:
    assert not is_refused(
        {"source": {"token": "labels"}, "task": {"word_delimiter_token": "|", "image_token": "im7"}}
    )


def is_refused(settings: dict[str, Any]) -> bool:
    try:
        refuse_secrets(settings)
    except SettingError:
        return True
    return False


@pytest.mark.parametrize("name", ["mlflow_secret", "storage_secret", "webhook_secret"])
def test_the_name_of_a_secret_in_kubernetes_is_no_secret(name: str, project: Path) -> None:
    sections = settle(None, [f"cluster.{name}=team-7"], project)[1]
    assert sections["cluster"].plain()[name] == "team-7"


def test_the_recipes_of_the_project_hold_none() -> None:
    for recipe in [None, *sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))]:
        assert settle(recipe, [], ROOT)[1]


def test_nothing_is_written_for_a_refused_recipe(project: Path) -> None:
    with pytest.raises(SettingError):
        resolve(None, [f"source.token={SECRET}"], project)
    assert not any(
        SECRET in path.read_text(errors="replace") for path in project.rglob("*") if path.is_file()
    )
