"""Sources in S3, against a real server on loopback: rclone's, which the lock brings."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrainer.errors import UserError
from retrainer.services import storage
from retrainer.settings import Source
from tests.mlflow_server import free_port
from tests.s3_server import KEY, SECRET, running_s3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address of the server, and the directory of its one bucket."""
    # Read what lies there now: tests write below the server's back.
    with running_s3(tmp_path_factory.mktemp("server"), "--dir-cache-time", "0") as (address, root):
        (root / "bucket").mkdir()
        yield address, root / "bucket"


@pytest.fixture
def bucket(server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    address, folder = server
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


def test_one_object_is_one_file(bucket: Path, tmp_path: Path) -> None:
    (bucket / "data").mkdir()
    (bucket / "data/rows.csv").write_text("text,label\ngood,yes\n")
    (bucket / "data/rows.csv.bak").write_text("not this one")
    found = storage.fetch("s3://bucket/data/rows.csv", tmp_path)
    assert found == tmp_path / "rows.csv"
    assert found.read_text() == "text,label\ngood,yes\n"
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_a_prefix_is_a_directory(bucket: Path, tmp_path: Path) -> None:
    for name in ("images/cat/1.png", "images/dog/2.png", "images-old/cat/3.png"):
        (bucket / name).parent.mkdir(parents=True, exist_ok=True)
        (bucket / name).write_bytes(name.encode())
    found = storage.fetch("s3://bucket/images/", tmp_path)
    assert {p.relative_to(found).as_posix(): p.read_bytes() for p in found.rglob("*.png")} == {
        "cat/1.png": b"images/cat/1.png",
        "dog/2.png": b"images/dog/2.png",
    }


def test_a_digest_follows_the_objects(bucket: Path) -> None:
    (bucket / "rows.csv").write_text("one")
    source = Source(path="s3://bucket/rows.csv")
    before = storage.digest(source)
    assert storage.digest(source) == before
    (bucket / "rows.csv").write_text("two")
    assert storage.digest(source) != before


def test_a_source_is_local_inside_the_block_only(bucket: Path) -> None:
    (bucket / "rows.csv").write_text("text,label\ngood,yes\n")
    source = Source(path="s3://bucket/rows.csv", text="text")
    pinned = source.model_copy(update={"digest": storage.digest(source)})
    with storage.local(pinned) as here:
        assert Path(here.path).read_text() == "text,label\ngood,yes\n"
        assert (here.text, here.digest) == ("text", "")
    assert not Path(here.path).exists()


def test_a_source_that_changed_after_resolve_is_refused(bucket: Path) -> None:
    (bucket / "rows.csv").write_text("one")
    source = Source(path="s3://bucket/rows.csv")
    pinned = source.model_copy(update={"digest": storage.digest(source)})
    (bucket / "rows.csv").write_text("another")
    with pytest.raises(UserError, match="changed since the settings were resolved"), storage.local(pinned):
        pass


@pytest.mark.slow
def test_an_own_test_set_on_this_machine_counts_too(bucket: Path, tmp_path: Path) -> None:
    (bucket / "rows.csv").write_text("text,label\ngood,yes\n")
    own = tmp_path / "own.csv"
    own.write_text("text,label\nbad,no\n")
    source = Source(path="s3://bucket/rows.csv", test_path=str(own))
    pinned = source.model_copy(update={"digest": storage.digest(source)})
    with storage.local(pinned) as here:
        assert here.test_path == str(own)
    own.write_text("text,label\nbad,yes\n")
    assert storage.digest(source) != pinned.digest
    with pytest.raises(UserError, match="changed since the settings were resolved"), storage.local(pinned):
        pass


def test_the_address_of_mlflows_store_serves_too(
    bucket: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (bucket / "rows.csv").write_text("one")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", server[0])
    assert len(storage.digest(Source(path="s3://bucket/rows.csv"))) == 64


@pytest.mark.parametrize("uri", ["s3://bucket/nothing.csv", "s3://nowhere/rows.csv"])
def test_what_is_not_there_is_named(bucket: Path, uri: str) -> None:  # noqa: ARG001 (the server)
    with pytest.raises(UserError, match=f"source.path: .*{uri}"):
        storage.digest(Source(path=uri))


def test_wrong_keys_are_told_without_showing_them(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bucket / "rows.csv").write_text("one")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-secret")
    with pytest.raises(UserError, match="check the address, AWS_ENDPOINT_URL and the credentials") as caught:
        storage.digest(Source(path="s3://bucket/rows.csv"))
    assert "a-wrong-secret" not in str(caught.value)


def test_a_dead_server_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with pytest.raises(UserError, match="AWS_ENDPOINT_URL"):
        storage.digest(Source(path="s3://bucket/rows.csv"))


def test_a_local_source_passes_as_it_is(tmp_path: Path) -> None:
    source = Source(path=str(tmp_path), digest="ab")
    with storage.local(source) as here:
        assert here is source


@pytest.mark.parametrize("uri", ["s3://", "s3:///key"])
def test_an_address_without_a_bucket_shows_the_form(uri: str) -> None:
    with pytest.raises(UserError, match="s3://BUCKET/KEY"):
        storage.digest(Source(path=uri))
