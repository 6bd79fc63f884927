"""The settings that a prediction goes by: of a recipe, or as a compiled pipeline hands them over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from retrainer.errors import SettingError
from retrainer.resolve import PARAMS, settle
from retrainer.settings import SECTIONS, Compute, Registry, Source


class Sections(NamedTuple):
    """Of a recipe's settings, those that say which model predicts, and how."""

    source: Source
    compute: Compute
    registry: Registry


def read_sections(
    recipe: str = "", root: Path = Path(), text: str = "", needs_project: bool = True
) -> Sections:
    """Of the recipe of the project `root`; or of `text`, JSON by section, where there is no project.

    Where there is neither, each key has its default, unless the project is needed: enough for a model
    directory. Raises SettingError for a project or a recipe that is not there.
    """
    if text:
        return _parsed(text)
    if not (needs_project or recipe or (root / PARAMS).is_file()):
        return _of({name: {} for name in Sections._fields})
    sections: dict[str, Any] = settle(recipe or None, [], root)[1]
    return Sections(*(sections[name] for name in Sections._fields))


def _parsed(text: str) -> Sections:
    try:
        return _of(dict(json.loads(text)))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        names = ", ".join(Sections._fields)
        raise SettingError(f"--sections: no JSON of {names} ({error!r}); compile it again") from None


def _of(given: dict[str, Any]) -> Sections:
    parsed: list[Any] = [SECTIONS[name].parse(given[name], name) for name in Sections._fields]
    return Sections(*parsed)
