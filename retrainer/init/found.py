"""What lies at a path, as far as a recipe needs to know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from retrainer.texts import plural


@dataclass(frozen=True)
class Found:
    """`source`: the keys of the recipe's section, `kind` and `path` among them. `task`: those of its task.

    facts     what was found, a line each
    chosen    setting, as `source.label` → why this value, and what else it could be
    sections  further sections of the recipe
    """

    title: str
    source: Mapping[str, Any]
    task: Mapping[str, Any]
    facts: tuple[str, ...] = ()
    chosen: Mapping[str, str] = field(default_factory=dict)
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def shown(names: list[str], most: int = 5) -> str:
    """The first of them, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def class_counts(counts: Mapping[str, int]) -> str:
    """`3 classes: cat 200, dog 190, fox 10`, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return f"{plural(len(ordered), 'class', 'classes')}: " + shown([f"{name} {n:,}" for name, n in ordered])
