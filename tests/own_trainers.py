"""The trainers that docs/own-trainer.md shows, as files of a project."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import ROOT

PAGE = ROOT / "docs/own-trainer.md"
# What the page's recipes call the user's data.
DATA = ("data/photos", "data/reviews.csv")


def shown() -> tuple[dict[str, str], list[str]]:
    """Module of `plugins` → its code, and the recipes, as the page has them."""
    modules, recipes = {}, []
    name = ""
    for line, kind, block in re.findall(
        r"^([^\n]*`plugins/\w+\.py`[^\n]*)$|```(python|yaml)\n(.*?)```",
        PAGE.read_text(encoding="utf-8"),
        re.M | re.S,
    ):
        if line:
            name = re.findall(r"`plugins/(\w+)\.py`", line)[-1]
        elif kind == "python":
            modules[name] = block
        else:
            recipes.append(block)
    return modules, recipes[1:]  # the first is one line of a recipe


def write_plugins(project: Path) -> list[str]:
    """Writes the modules; returns the recipes."""
    modules, recipes = shown()
    for name, code in modules.items():
        (project / "plugins" / f"{name}.py").write_text(code, encoding="utf-8")
    return recipes
