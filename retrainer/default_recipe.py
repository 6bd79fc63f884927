"""Says which recipe a command uses that was given no RECIPE."""

from __future__ import annotations

import sys
from pathlib import Path

from retrainer.errors import UserError
from retrainer.resolve import PARAMS, default_recipe, known_recipes


def say_default() -> None:
    """Prints the line on stderr."""
    if line := said_default():
        print(line, file=sys.stderr, flush=True)


def said_default(root: Path = Path()) -> str:
    """A line that names the recipe of params.yaml; empty where there is no other one to take it for.

    Whatever is wrong with params.yaml is said by what reads it next.
    """
    if not (root / PARAMS).is_file():
        return ""
    try:
        name = default_recipe(root)
        others = len(known_recipes(root, name)) - 1
    except (UserError, AttributeError):
        return ""
    return f"recipe: {name}, from {PARAMS} (RECIPE=… chooses another in recipes/)" if others else ""
