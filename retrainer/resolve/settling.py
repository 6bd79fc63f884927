"""A recipe's settings as its files say them: params.yaml ← the start of its task ← the recipe ← SET."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from retrainer.errors import SettingError
from retrainer.layers import Layer, merged, origins
from retrainer.no_effect import without_effect
from retrainer.resolve.recipes import (
    PARAMS,
    parse_override,
    read_recipe,
    read_yaml,
    recipe_name,
    registry_name,
)
from retrainer.resolve.validation import validate
from retrainer.services.secrets import refuse_secrets
from retrainer.settings import Section, Source
from retrainer.starts import start_below

# Before the name of the task, in the origin of a layer.
START = "start of "


def settle(recipe: str | None, overrides: list[str], root: Path) -> tuple[str, dict[str, Section]]:
    """The recipe's name and its valid sections, in which nothing is pinned to this machine or moment yet."""
    name, layers = layers_of(recipe, overrides, root)
    return name, settled(layers)


def settled(layers: Sequence[Layer]) -> dict[str, Section]:
    """The valid sections of all layers together."""
    together = merged(layers)
    refuse_secrets(together)
    return validate(together)


def layers_of(recipe: str | None, overrides: list[str], root: Path) -> tuple[str, list[Layer]]:
    """The recipe's name, and what its settings are made of, the lowest first: params.yaml, the start of its
    task where the recipe needs one, the recipe, and what `overrides` say for this run."""
    name = recipe_name(recipe, root)
    base = read_yaml(root / PARAMS)
    default = registry_name(base)
    if name == default and (root / "recipes" / f"{name}.yaml").is_file():
        raise SettingError(
            f"recipes/{name}.yaml: {name} is the recipe of {PARAMS} itself (its registry.name);"
            " change it there, or rename this file"
        )
    below = [] if name == default else [Layer(PARAMS, base)]
    own = Layer(PARAMS, base) if name == default else Layer(f"recipes/{name}.yaml", read_recipe(root, name))
    given = [Layer(f"SET={text}", parse_override(text)) for text in overrides]
    start = start_below(chosen := merged([own, *given]), merged(below), _kind_of_source(chosen))
    return name, [*below, *([Layer(f"{START}{start.task}", start.sections)] if start else []), own, *given]


def _kind_of_source(sections: Mapping[str, Any]) -> str:
    """Of the recipe's own source; "" where it names none, or one that is not there, which `pin` reports."""
    from retrainer.data.fingerprint import choose_kind

    try:
        return choose_kind(Source.parse(sections["source"], "source")) if "source" in sections else ""
    except SettingError:
        return ""


def remarks(layers: Sequence[Layer], sections: Mapping[str, Section]) -> Iterator[str]:
    """What a person should know of how these settings came about, a line each."""
    below = PARAMS if any(layer.origin.startswith("recipes/") for layer in layers) else ""
    for layer in layers:
        if layer.origin.startswith(START):
            backbone, training = sections["backbone"].plain(), sections["training"].plain()
            yield (
                f"the recipe names no backbone; the {layer.origin} sets"
                f" {'task.kind, ' if 'task' in layer.sections else ''}backbone.weights={backbone['weights']}"
                f" ({backbone['family']}), training.strategy={training['strategy']}; make resolve lists all"
            )
    written = {
        section: [key for key, origin in keys.items() if origin != below and not origin.startswith(START)]
        for section, keys in origins(layers).items()
    }
    yield from without_effect(sections, written)
