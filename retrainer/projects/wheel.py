"""The running library as a wheel again, which a project keeps: of an installation, or of a wheel itself.

Equal content gives equal bytes, so that two people who make one version's project commit the same file.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution

import retrainer
from retrainer.errors import SettingError
from retrainer.projects.template import LIBRARY

# Of its dist-info: all but the list of files, which is made anew, and what an installer adds.
_DESCRIBES_IT = {"METADATA", "WHEEL", "entry_points.txt", "top_level.txt", "LICENSE"}
_REINSTALL = "install it again: pip install --no-deps --force-reinstall WHEEL"
_FIRST_DAY_OF_ZIP = (1980, 1, 1, 0, 0, 0)


def packed() -> bytes:
    """The wheel. Raises UserError where the library was altered since its wheel was built."""
    try:
        ours = distribution(LIBRARY)
    except PackageNotFoundError:
        raise SettingError(f"Retrainer was copied here rather than installed; {_REINSTALL}") from None
    if str(ours.locate_file(f"{LIBRARY}/__init__.py")) != str(retrainer.__file__):
        raise SettingError(
            f"two Retrainers are in reach, {retrainer.__file__} and {ours.locate_file(LIBRARY)}; remove one"
        )
    files = dict(_checked(ours))
    (folder,) = {name.partition("/")[0] for name in files} - {LIBRARY}
    return _zipped(files, f"{folder}/RECORD")


def _checked(ours: Distribution) -> Iterator[tuple[str, bytes]]:
    """Every file of the wheel, compared with the hash that its own list has of it."""
    for file in ours.files or ():
        if file.hash is None or not _is_of_the_wheel(file):
            continue
        content = file.read_binary()
        if _hash(content) != file.hash.value:
            raise SettingError(f"{ours.locate_file(file)} was altered; {_REINSTALL}")
        yield file.as_posix(), content


def _is_of_the_wheel(file: PackagePath) -> bool:
    top, *rest = file.parts
    described = top.endswith(".dist-info") and file.name in _DESCRIBES_IT
    return "__pycache__" not in rest and (top == LIBRARY or described)


def _hash(content: bytes) -> str:
    """As RECORD has it: https://packaging.python.org/en/latest/specifications/recording-installed-packages/"""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _zipped(files: dict[str, bytes], record: str) -> bytes:
    lines = [f"{name},sha256={_hash(files[name])},{len(files[name])}\n" for name in sorted(files)]
    whole = {name: files[name] for name in sorted(files)} | {
        record: "".join([*lines, f"{record},,\n"]).encode()
    }
    made = io.BytesIO()
    # Not deflated: what that gives depends on the zlib of a machine's Python, and git compresses its objects.
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name, content in whole.items():
            entry = zipfile.ZipInfo(name, _FIRST_DAY_OF_ZIP)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_STORED
            archive.writestr(entry, content)
    return made.getvalue()
