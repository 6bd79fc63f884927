"""Registered files that were altered: every door refuses them, and no key is ever shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from retrainer.__main__ import main
from retrainer.errors import UserError
from retrainer.registry import signing
from retrainer.registry.champion import fetch_champion
from retrainer.registry.promote import promote, rollback
from retrainer.registry.register import register_model
from retrainer.registry.serving_check import ask
from retrainer.services import lookup
from retrainer.services.keys import SIGNING, VERIFY
from retrainer.settings import Registry
from tests.champions import (
    NAME,
    PARAMS,
    VERDICTS,
    Project,
    files_of,
    in_a_copy,
    own_environment,
    without_serving_check,
)
from tests.registered import image_dataset

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]
SIGNED_NET = Registry(name=NAME, sign=True)
STATE = {"champion": "2", "challenger": "3"}
MODEL = "artifacts/model"


def private_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


KEY, OTHER = private_key(), private_key()
PUBLIC = signing.public_of(KEY.encode()).decode()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three signed versions."""
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        own_environment(patch, folder)
        without_serving_check(patch)
        patch.setenv(SIGNING, KEY)
        (folder / "params.yaml").write_text(PARAMS)
        made = Project(folder, image_dataset(folder / "dataset"))
        for seed, verdict in enumerate(VERDICTS):
            made.register(seed, verdict, SIGNED_NET)
        return made


@pytest.fixture
def project(base: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    made = in_a_copy(base, tmp_path, monkeypatch)
    monkeypatch.setenv(VERIFY, PUBLIC)
    return made


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def sign_by(key: str, files: Path) -> None:
    (files / signing.SIGNATURE).unlink()
    signing.sign(files, key.encode())


def sign_another_content(files: Path) -> None:
    """The right key's signature, over other files than these."""
    (files / "more.txt").write_text("x")
    sign_by(KEY, files)
    (files / "more.txt").unlink()


TAMPERED: dict[str, Callable[[Path], object]] = {
    "a flipped byte in the weights": lambda files: flip(files / MODEL / "model.safetensors"),
    "two files that changed places": lambda files: (files / "served.py").rename(files / "MLmodel"),
    "a removed file": lambda files: (files / "requirements.txt").unlink(),
    "other code": lambda files: (files / "code/retrainer/tasks/_classes.py").write_text("import os"),
    "no signature": lambda files: (files / signing.SIGNATURE).unlink(),
    "a broken signature": lambda files: flip(files / signing.SIGNATURE),
    "another key's signature": lambda files: sign_by(OTHER, files),
    "another content's signature": sign_another_content,
}
REFUSED = r"^[^\n]*(was altered|altered after it was signed|gone|missing|does not belong)[^\n]*$"


def test_whole_and_signed_versions_pass_every_door(project: Project) -> None:
    assert fetch_champion(NAME, project.folder / "fetched") is not None
    promote(NAME, "3", "")
    rollback(NAME, "")
    assert lookup.state(NAME)["champion"] == "2"


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED)
def test_what_was_altered_is_neither_promoted_nor_rolled_back_to_nor_fetched(
    project: Project, change: Callable[[Path], object]
) -> None:
    for version, door in (
        ("3", lambda: promote(NAME, "3", "")),
        ("1", lambda: rollback(NAME, "")),
        ("2", lambda: fetch_champion(NAME, project.folder / "fetched")),
    ):
        change(files_of(version))
        with pytest.raises(UserError, match=REFUSED):
            door()
        assert lookup.state(NAME) == STATE


SERVED = ("a flipped byte in the weights", "other code", "another key's signature", "no signature")


@pytest.mark.parametrize("name", SERVED)
def test_what_was_altered_is_not_loaded_where_it_is_served(project: Project, name: str) -> None:
    import pyarrow.parquet as pq

    TAMPERED[name](files_of("3"))
    sample = pq.read_table(project.folder / "model-2-report/sample.parquet")
    reason = r"cannot be served over HTTP: it does not load: [^\n]*(altered|not signed)"
    with pytest.raises(UserError, match=reason):
        ask("models:/net/3", sample.select(["image"]))


def test_a_signed_version_is_not_promoted_where_nobody_can_check_it(
    project: Project,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(VERIFY)
    with pytest.raises(UserError, match=rf"^models:/net/3 is signed: set {VERIFY} to the public key$"):
        promote(NAME, "3", "")
    monkeypatch.setenv(SIGNING, OTHER)
    with pytest.raises(UserError, match="signed by another key"):
        promote(NAME, "3", "")
    monkeypatch.setenv(SIGNING, KEY)
    promote(NAME, "3", "")


def pieces(key: str) -> list[bytes]:
    """The key's lines, and shorter parts of them."""
    lines = [line for line in key.splitlines() if line and "-----" not in line]
    return [part.encode() for line in lines for part in re.findall(".{16,20}", line)]


def test_no_piece_of_a_key_is_shown_or_kept(
    project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SIGNING, KEY)
    project.register(7, "challenger", SIGNED_NET)
    assert main(["promote", "3", "--why", "x"]) == 0
    for command in (["rollback"], ["history"], ["compare", "1", "2"], ["reap"]):
        assert main(command) == 0
    # Pasted wrongly: cut short, a public key in a private one's place, no key at all.
    canary = "CANARYcanaryCANARYcanary"
    shown = ""
    model, report = project.folder / "model-7", project.folder / "model-7-report"
    for wrong in (KEY[:120], PUBLIC, canary, f"-----BEGIN {canary}"):
        monkeypatch.setenv(SIGNING, wrong)
        with pytest.raises(UserError) as refused:
            register_model(model, report, project.folder / "no", SIGNED_NET)
        monkeypatch.setenv(VERIFY, wrong if wrong != PUBLIC else canary)
        with pytest.raises(UserError) as unchecked:
            promote(NAME, "3", "")
        shown += f"{refused.value}{unchecked.value}"
    out, err = capfd.readouterr()
    shown += out + err
    secrets = [*pieces(KEY), canary.encode()]
    assert len(secrets) > 5
    assert not [secret for secret in secrets if secret in shown.encode()]
    kept = [path for path in project.folder.rglob("*") if path.is_file()]
    assert project.folder / "mlflow.db" in kept
    assert not [path for path in kept if any(secret in path.read_bytes() for secret in secrets)]
