"""The best settings as a recipe: the tuned one's own text, comments and all, with other values in it."""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrainer.errors import SettingError
from retrainer.formats.files import write_text
from retrainer.resolve import PARAMS, default_recipe, expanded, parse_override

_WIDTH = 4096  # lines stay as they are


@dataclass(frozen=True)
class Tuned:
    """The new recipe, and `before`: the text of the one that was tuned; none of params.yaml's."""

    path: Path
    text: str
    origin: str
    before: str

    @classmethod
    def of(cls, recipe: str, values: Mapping[str, Any], overrides: Sequence[str], root: Path) -> Tuned:
        """The recipe with `values`, and with what SET said for this tuning.

        Its model keeps its name in the registry, so that the gate compares it with the champion.
        """
        is_default = recipe == default_recipe(root)
        source = root / "recipes" / f"{recipe}.yaml"
        before = "" if is_default else source.read_text(encoding="utf-8")
        text = _with_values(before, recipe, values, overrides)
        path = root / "recipes" / f"{recipe}-tuned.yaml"
        return cls(path, text, PARAMS if is_default else f"recipes/{recipe}.yaml", before)

    def difference(self) -> list[str]:
        """From the recipe that was tuned, as a diff."""
        return _diff(self.before, self.text, self.origin, self.name)

    @property
    def name(self) -> str:
        return f"recipes/{self.path.name}"

    def write(self, force: bool) -> list[str]:
        """Lines that say what was written. Another recipe of that name stays, unless with `force`."""
        there = self.path.read_text(encoding="utf-8") if self.path.is_file() else None
        if there == self.text:
            return [f"{self.name} says so already"]
        if there is not None and not force:
            raise SettingError(
                "\n".join(
                    [
                        f"{self.name} is there and says something else; FORCE=1 replaces it:",
                        *_diff(there, self.text, self.name, f"{self.name} (new)"),
                    ]
                )
            )
        write_text(self.path, self.text)
        if there is None:
            return [f"{self.name} written"]
        return [f"{self.name} replaced, as FORCE=1 says:", *_diff(there, self.text, "before", self.name)]


def _diff(before: str, after: str, old: str, new: str) -> list[str]:
    return list(difflib.unified_diff(before.splitlines(), after.splitlines(), old, new, lineterm="", n=1))


def _with_values(text: str, recipe: str, values: Mapping[str, Any], overrides: Sequence[str]) -> str:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width, yaml.preserve_quotes = _WIDTH, True
    content: Any = yaml.load(text) or yaml.map()
    for given in overrides:
        for section, said in parse_override(given).items():
            if section != "tune":
                _put(content, section, said)
    for key, value in values.items():
        section, _, name = key.partition(".")
        _put(content, section, {name: value})
    registry = content.get("registry")
    if not (isinstance(registry, str) or (registry or {}).get("name")):
        _put(content, "registry", {"name": recipe})
    made = io.StringIO()
    yaml.dump(content, made)
    return made.getvalue()


def _put(content: Any, section: str, values: Mapping[str, Any]) -> None:
    """A section in one word, as `task: image_classification`, gets its key first."""
    there = content.get(section)
    if isinstance(there, str):
        there = content[section] = expanded(section, there, Path("recipes"))
    elif there is None:
        there = content[section] = {}
    there.update(values)
