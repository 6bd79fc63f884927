"""The settings file of a recipe, in which nothing can change any more."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrainer.code.digests import project_code, step_digests
from retrainer.formats.files import write_json
from retrainer.messages import logger
from retrainer.resolve.pinning import pin
from retrainer.resolve.settling import layers_of, remarks, settled
from retrainer.settings import SECTIONS, Section

RUN = ".run"


@dataclass(frozen=True)
class Resolved:
    """A recipe's name, its directory below `.run/`, and its sections as plain data."""

    recipe: str
    directory: Path
    settings: dict[str, dict[str, Any]]

    def section(self, name: str) -> Section:
        return SECTIONS[name].parse(self.settings[name], name)


def resolve(
    recipe: str | None,
    overrides: list[str],
    root: Path = Path(),
    directory: Path | None = None,
    steps: Iterable[str] = (),
) -> Resolved:
    """Settles a recipe's settings and writes `settings.json` into `directory` (`.run/<recipe>`).

    The file also holds, as `code`, one digest of the code of each of the `steps` in `components/`.
    Raises UserError that names the setting, the file and the cure.
    """
    name, layers = layers_of(recipe, overrides, root)
    sections = settled(layers)
    for line in remarks(layers, sections):
        logger("resolve").info(line)
    where = directory or root / RUN / name
    code = project_code(root, where)
    settings = {key: section.plain() for key, section in pin(sections, root, where, code).items()}
    digests = step_digests(steps, settings, code, root)
    code.remember()
    _write_if_changed(where / "settings.json", settings | ({"code": digests} if digests else {}))
    return Resolved(name, where, settings)


def _write_if_changed(path: Path, value: Any) -> None:
    """Leaves an equal file alone, so that its time does not make anyone look again."""
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) == value:
        return
    write_json(path, value)
