"""`make init`: writes recipes/NAME.yaml for the data at a path, and says what it found and chose."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrainer.data.sources._splits import split_of
from retrainer.errors import SettingError
from retrainer.formats.files import write_text
from retrainer.init.found import Found
from retrainer.init.look import look
from retrainer.init.recipe import recipe_text, sections_of
from retrainer.layers import Layer, merged
from retrainer.resolve import PARAMS, default_recipe, parse_override, settle

# Roles of a table's columns that `source.ROLE` names.
_ROLES = ("text", "text_pair", "target_text", "image", "audio", "label", "group", "time", "id")


@dataclass(frozen=True)
class Request:
    """What a person asks for: `recipe` may be empty, then it is named by the data; `overrides` are SET's."""

    data: str
    recipe: str = ""
    overrides: tuple[str, ...] = ()
    root: Path = Path()


def init(request: Request) -> list[str]:
    """Writes the recipe and returns what to say, line by line.

    Raises UserError where nothing at the path can be read, or the recipe is there already.
    """
    given = merged([Layer("SET", parse_override(text)) for text in request.overrides])
    name = _name(request)
    file = request.root / "recipes" / f"{name}.yaml"
    _refuse_known(name, file, request)
    found = look(request.data, _roles(given))
    sections = merged([Layer("found", sections_of(name, found)), Layer("SET", given)])
    write_text(file, recipe_text(name, found, sections))
    try:
        settle(name, [], request.root)
    except SettingError:
        file.unlink()
        raise
    return _said(name, file, found, sections)


def _said(name: str, file: Path, found: Found, sections: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What was found, what was chosen and what else it could be, and what to type next."""
    lines = [found.title, *(f"  {fact}" for fact in found.facts), "", f"written: {file}"]
    lines.append(f"  task.kind={sections['task']['kind']}, from {_start(sections)}")
    for setting, why in found.chosen.items():
        section, _, key = setting.partition(".")
        value = sections.get(section, {}).get(key)
        lines.append(f"  {setting}{'' if value is None or setting == 'task.kind' else f'={value}'}: {why}")
    return [*lines, "", f"next: make smoke RECIPE={name}", f"then: make pipeline RECIPE={name}"]


def _roles(given: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    source = given.get("source", {})
    roles = {role: str(source[role]) for role in _ROLES if role in source}
    return roles | ({"label": str(source["target"])} if "target" in source else {})


def _name(request: Request) -> str:
    """The recipe's name as given, else by the data's, in characters that a recipe's name can have."""
    if request.recipe:
        return request.recipe
    path = Path(request.data)
    named = path.parent if split_of(path.stem) and path.parent.name else path
    stem = named.name.split(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_").lower() or "mine"


def _refuse_known(name: str, file: Path, request: Request) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise SettingError(f"RECIPE={name}: a recipe's name is of letters, digits, _, . and -")
    if file.exists() or name == default_recipe(request.root):
        there = file if file.exists() else PARAMS
        raise SettingError(
            f"{there} is there already, and stays as it is; choose another name by RECIPE=NAME"
        )


def _start(sections: Mapping[str, Mapping[str, Any]]) -> str:
    backbone = sections.get("backbone", {})
    weights = backbone.get("weights", "none")
    name = backbone.get("name", backbone.get("family", "what params.yaml says"))
    return f"{name} with random values" if weights == "none" else f"{name}, weights {weights}"
