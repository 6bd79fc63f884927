"""Which weights are meant: what every way to provide them shares."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from retrainer.errors import SettingError
from retrainer.formats.files import sha256_file, write_text
from retrainer.settings import Backbone

WAYS = (
    "weights can be package:NAME (an installed package), models:/NAME@ALIAS (registered here),"
    " a local directory, .safetensors, .keras or .gguf file, a hub id where a hub can be reached (HF_ENDPOINT"
    ": a mirror), imagenet, or none"
)


def settled(backbone: Backbone, identities: list[str]) -> Backbone:
    """The backbone with the first identity written in; one that the user has named must be among them."""
    wanted = backbone.weights_sha256
    if wanted and wanted not in identities:
        raise SettingError(
            f"backbone.weights: {backbone.weights} has sha256 {identities[-1]}, but backbone.weights_sha256"
            f" is {wanted}; restore the file, or remove that setting"
        )
    return backbone.model_copy(update={"weights_sha256": identities[0]})


def check_header(path: Path) -> None:
    """Raises UserError unless a .safetensors file has all the bytes that its header promises.

    No weight is read: what is cut short, or is no such file at all, is told before a run and not after hours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass
    except (OSError, SafetensorError) as error:
        raise SettingError(
            f"backbone.weights: {path} is no whole .safetensors file ({error}); copy or download it again"
        ) from None


class FileDigests:
    """sha256 per file, remembered in a JSON file until the file's size or times change."""

    def __init__(self, cache: Path | None) -> None:
        self.cache = cache
        self.known: dict[str, list[object]] = {}
        if cache is not None and cache.is_file():
            with suppress(ValueError):
                self.known = dict(json.loads(cache.read_text(encoding="utf-8")))

    def of(self, path: Path) -> str:
        """The file's sha256. Raises UserError for a .safetensors file that is not whole."""
        status = path.stat()
        key, stamp = str(path.resolve()), [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        entry = self.known.get(key)
        if entry and entry[:-1] == stamp:
            return str(entry[-1])
        if path.suffix == ".safetensors":
            check_header(path)
        digest = sha256_file(path)
        self.known[key] = [*stamp, digest]
        if self.cache is not None:
            write_text(self.cache, json.dumps(self.known, sort_keys=True))
        return digest
