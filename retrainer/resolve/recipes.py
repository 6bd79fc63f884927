"""The files that hold settings: params.yaml, the recipes, which names these have, and what SET says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrainer import extend
from retrainer.errors import SettingError, nearest
from retrainer.settings import SECTIONS, SHORTHAND
from retrainer.strict_yaml import parse_yaml

PARAMS = "params.yaml"


def read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise SettingError(f"{path} does not exist; run in the project's root")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SettingError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    data = parse_yaml(text, str(path))
    if not isinstance(data, dict):
        raise SettingError(f"{path}: expected sections ({', '.join(SECTIONS)}), found {data!r:.60}")
    return {str(key): expanded(str(key), value, path) for key, value in data.items()}


def expanded(key: str, value: Any, path: Path) -> dict[str, Any]:
    """A section as a mapping; a bare word stands for the section's main key."""
    if key not in SECTIONS:
        raise SettingError(f"{path}: unknown section '{key}'{nearest(key, SECTIONS)}")
    if isinstance(value, str):
        if key == "source":
            return {"kind": value} if _is_kind(value) else {"path": value}
        if key in SHORTHAND:
            return {SHORTHAND[key]: value}
    if not isinstance(value, dict):
        raise SettingError(f"{path}: section '{key}' must hold settings, found {value!r:.60}")
    return value


def _is_kind(word: str) -> bool:
    return word in extend.builtin_names("data/sources") or word.startswith("plugins.")


def read_recipe(root: Path, name: str) -> dict[str, Any]:
    """A recipe's own settings. Its model goes by the recipe's name unless it gives another."""
    data = read_yaml(recipe_file(root, name))
    return data | {"registry": {"name": name} | data.get("registry", {})}


def recipe_file(root: Path, name: str) -> Path:
    path = root / "recipes" / f"{name}.yaml"
    if not path.is_file():
        raise SettingError(f"RECIPE={name}: there is no {path}{nearest(name, _recipe_stems(root))}")
    return path


def _recipe_stems(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / "recipes").glob("*.yaml"))


def known_recipes(root: Path, default: str) -> list[str]:
    return sorted({default, *_recipe_stems(root)})


def default_recipe(root: Path) -> str:
    return registry_name(read_yaml(root / PARAMS))


def recipe_name(given: str | None, root: Path) -> str:
    """The name that RECIPE gives, or the default's. Directories are named by it: no path will do."""
    if given and not re.fullmatch(r"\w[\w.-]*", given):
        raise SettingError(f"RECIPE={given}: needed is the name of a file of recipes/, without .yaml")
    return given or default_recipe(root)


def registry_name(params: Mapping[str, Any]) -> str:
    return str(params.get("registry", {}).get("name", "model"))


def registered_names(root: Path) -> dict[str, str]:
    """Registered model name → the recipe that makes it."""
    base = read_yaml(root / PARAMS)
    names = {registry_name(base): registry_name(base)}
    for stem in _recipe_stems(root):
        names.setdefault(registry_name(read_recipe(root, stem)), stem)
    return names


def parse_override(text: str) -> dict[str, Any]:
    """`training.epochs=3` → {"training": {"epochs": 3}}."""
    key, equals, value = text.partition("=")
    section, dot, name = key.partition(".")
    if not (equals and dot and name) or section not in SECTIONS:
        raise SettingError(f"SET={text}: expected section.key=value, as in SET=training.epochs=3")
    return {section: {name: parse_yaml(value, f"SET={text}")}}
