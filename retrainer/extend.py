"""The file name is the registry: a built-in file's name or a dotted path names a plug-in."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from retrainer.errors import SettingError, nearest

_ROOT = Path(__file__).parent


def builtin_names(package: str) -> list[str]:
    """Names of the files in `retrainer/<package>/`, for example `data/sources`."""
    return sorted(p.stem for p in (_ROOT / package).glob("*.py") if not p.stem.startswith("_"))


def load(package: str, name: str, setting: str) -> ModuleType:
    """Imports `retrainer/<package>/<name>.py`, or the module at a dotted path such as `plugins.mine`.

    Raises UserError that names `setting` when there is no such module.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        raise SettingError(f"{setting}: {name!r} is neither a file of retrainer/{package} nor a dotted path")
    if "." in name:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and name.startswith(error.name):
                raise SettingError(
                    f"{setting}: no module {name}; expected the file {name.replace('.', '/')}.py"
                ) from None
            raise
    if name not in builtin_names(package):
        raise SettingError(
            f"{setting}: no '{name}' in retrainer/{package}{nearest(name, builtin_names(package))}"
        )
    return importlib.import_module(f"retrainer.{package.replace('/', '.')}.{name}")
