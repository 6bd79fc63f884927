"""What a recipe's settings are made of: layers, the lower ones overridden by the higher, key by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Sections = dict[str, dict[str, Any]]


class Layer(NamedTuple):
    """`origin`: what people call the place where these sections stand, as `recipes/mine.yaml`."""

    origin: str
    sections: Mapping[str, Mapping[str, Any]]


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` wins key by key. A section that picks another kind or family starts afresh."""
    merged = dict(base)
    for section, values in over.items():
        below = base.get(section, {})
        merged[section] = dict(values) if _picks_another(below, values) else {**below, **values}
    return merged


def _picks_another(below: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Whether `values` choose another file, or their own data instead of a built-in source.

    A kind that reads a path says so in its recipe (`path: ""` too) and stays.
    """
    own_data = bool(values.get("path")) and "kind" in below and "path" not in below
    return own_data or any(key in values and values[key] != below.get(key) for key in ("kind", "family"))


def merged(layers: Sequence[Layer]) -> Sections:
    """The sections of all layers, the lowest first."""
    made: Sections = {}
    for layer in layers:
        made = merge(made, layer.sections)
    return made


def origins(layers: Sequence[Layer]) -> dict[str, dict[str, str]]:
    """Section → key → the origin of the value that counts."""
    made: Sections = {}
    found: dict[str, dict[str, str]] = {}
    for layer in layers:
        made = merge(made, layer.sections)
        for section, values in layer.sections.items():
            below = found.get(section, {})
            found[section] = {key: layer.origin if key in values else below[key] for key in made[section]}
    return found


def stated(layers: Sequence[Layer]) -> list[str]:
    """What the layers say, one line for each origin, the highest first: `recipes/mine.yaml: task.kind=…`."""
    made, where = merged(layers), origins(layers)
    lines = []
    for layer in reversed(layers):
        pairs = [
            f"{section}.{key}={_word(made[section][key])}"
            for section, keys in where.items()
            for key, origin in keys.items()
            if origin == layer.origin
        ]
        lines.append(f"{layer.origin}: {'  '.join(pairs) or 'nothing that counts'}")
    return lines


def _word(value: Any) -> str:
    """As people type it after SET=, on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_word, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_word(one)}" for key, one in value.items()) + "}"
    return " ".join(str(value).split()) or '""'
