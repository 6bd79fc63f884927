"""Sources that lie in S3: one object, or everything below a prefix.

Which server, and with what credentials: see `retrainer/services/s3.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from retrainer.errors import SettingError
from retrainer.formats.files import digest_of, sha256_file
from retrainer.services.s3 import SCHEME, bucket_is_missing, download, s3_client, s3_explained, split_address
from retrainer.services.scratch import scratch_directory
from retrainer.settings import Source


def is_remote(path: str) -> bool:
    return path.startswith(SCHEME)


def digest(source: Source) -> str:
    """One sha256 for the source and its test set: of objects by name, size and tag, of files by bytes.

    Nothing is downloaded. Raises UserError when the server cannot be asked, or there is nothing.
    """
    paths = [path for path in (source.path, source.test_path) if path]
    return digest_of([_listing(path) if is_remote(path) else _local_listing(Path(path)) for path in paths])


@contextmanager
def local(source: Source) -> Iterator[Source]:
    """The source with its remote parts brought here for as long as the block runs.

    Raises UserError when they are no longer what `source.digest` says.
    """
    if not (is_remote(source.path) or is_remote(source.test_path)):
        yield source
        return
    with scratch_directory() as scratch:
        fetched = {
            role: str(fetch(path, scratch / role))
            for role, path in (("path", source.path), ("test_path", source.test_path))
            if is_remote(path)
        }
        if source.digest and digest(source) != source.digest:
            raise SettingError(
                f"source.path: {source.path} changed since the settings were resolved; run again"
            )
        yield source.model_copy(update={**fetched, "digest": ""})


def fetch(uri: str, into: Path, setting: str = "source.path") -> Path:
    """Downloads an object, or all objects below a prefix, into the directory `into`.

    Returns the file or directory, named as in the address. Raises UserError that begins with `setting` when
    there is nothing at `uri`, or the server refuses.
    """
    bucket, key = split_address(uri, setting)
    target = into / (PurePosixPath(key).name or bucket)
    with s3_explained(f"{setting}: {uri}"):
        client = s3_client()
        for inside, _, _ in _listing(uri, setting):
            file = target / inside
            file.parent.mkdir(parents=True, exist_ok=True)
            download(client, bucket, _join(key, inside), file)
    return target


def require_bucket(uri: str, setting: str) -> None:
    """For before the work whose result goes to `uri`: raises UserError that begins with `setting` where the
    bucket is missing, or the server away.
    """
    bucket, _ = split_address(uri, setting)
    with s3_explained(f"{setting}: {uri}"):
        missing = bucket_is_missing(s3_client(), bucket)
    if missing:
        raise SettingError(f"{setting}: {uri}: there is no bucket {bucket}; make it, or name another")


def put(file: Path, uri: str, setting: str) -> None:
    """Uploads a file as the object `uri`. Raises UserError that begins with `setting` when it is refused."""
    bucket, key = split_address(uri, setting)
    with s3_explained(f"{setting}: {uri}"):
        s3_client().upload_file(str(file), bucket, key)


def _listing(uri: str, setting: str = "source.path") -> list[tuple[str, int, str]]:
    """Name below the address (empty for the object itself), bytes and entity tag of every object."""
    bucket, key = split_address(uri, setting)
    with s3_explained(f"{setting}: {uri}"):
        client = s3_client()
        prefix = f"{key}/" if key else ""
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        found = [entry for page in pages for entry in page.get("Contents", ())]
    exact = [entry for entry in found if entry["Key"] == key]
    below = [e for e in found if e["Key"].startswith(prefix) and not e["Key"].endswith("/")]
    listing = [(e["Key"].removeprefix(prefix), e["Size"], e["ETag"]) for e in below]
    listing = [("", e["Size"], e["ETag"]) for e in exact] or sorted(listing)
    if not listing:
        raise SettingError(f"{setting}: there is nothing at {uri}")
    if odd := [name for name, _, _ in listing if ".." in PurePosixPath(name).parts or name.startswith("/")]:
        raise SettingError(f"{setting}: {uri} has an object named {odd[0]!r}, which would leave its folder")
    return listing


def _local_listing(path: Path) -> list[tuple[str, str]]:
    """Name below the path (empty for a file itself) and sha256 of every file."""
    if path.is_file():
        return [("", sha256_file(path))]
    files = sorted(file for file in path.rglob("*") if file.is_file())
    if not files:
        raise SettingError(f"source.path: there is nothing at {path}")
    return [(file.relative_to(path).as_posix(), sha256_file(file)) for file in files]


def _join(key: str, inside: str) -> str:
    return "/".join(part for part in (key, inside) if part)
