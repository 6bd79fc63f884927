"""The recipe's file: what was found and chosen, with the reasons as comments."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from retrainer.init.found import Found
from retrainer.starts import STARTS

WIDTH = 110
_COMMENTS_FROM = 34
# Text that YAML needs no quotes for, and words that it would not read as text.
_PLAIN = re.compile(r"[A-Za-z_/][\w./-]*(:[\w./-]+)*")
_NOT_TEXT = {"null", "true", "false", "yes", "no", "on", "off", "y", "n", "~"}


def recipe_text(name: str, found: Found, sections: Mapping[str, Mapping[str, Any]]) -> str:
    """YAML with a comment for every choice; `sections` are the recipe's own."""
    lines = [f"# Written by: make init DATA={found.source['path']}", *_comment("# ", found.title)]
    lines += [line for fact in found.facts for line in _comment("#   ", fact)]
    lines += _comment(
        "# ",
        "What is not set here comes from params.yaml, else from the defaults (docs/reference.md):"
        f" make resolve RECIPE={name} lists both.",
    )
    for section, values in sections.items():
        lines += ["", f"{section}:"]
        for key, value in values.items():
            lines += _line(key, value, found.chosen.get(f"{section}.{key}", ""))
        left = {
            key.partition(".")[2]: why for key, why in found.chosen.items() if key.startswith(f"{section}.")
        }
        for key in left.keys() - values.keys():
            lines += _comment("  # ", f"{key}: {left[key]}")
    return "\n".join([*lines, ""])


def _line(key: str, value: Any, reason: str) -> list[str]:
    """A setting with its reason behind it, or above it where that is too long."""
    line = f"  {key}: {_flow(value)}"
    if not reason:
        return [line]
    beside = f"{line:<{_COMMENTS_FROM - 2}}  # {reason}"
    return [beside] if len(beside) <= WIDTH else [*_comment("  # ", reason), line]


def sections_of(name: str, found: Found) -> dict[str, dict[str, Any]]:
    """The recipe's sections: what was found, and the start of its task written out."""
    start = STARTS.get(str(found.task["kind"]), {})
    made = {"registry": {"name": name}, "source": found.source, "task": found.task, **start}
    for section, values in found.sections.items():
        made[section] = {**made.get(section, {}), **values}
    return {section: dict(values) for section, values in made.items()}


def _comment(start: str, text: str) -> list[str]:
    """`start` is what each line begins with, the further ones two spaces later."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=start, subsequent_indent=f"{start}  ", break_on_hyphens=False
    )


def _flow(value: Any) -> str:
    """A value as one line of YAML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(one)}" for key, one in value.items()) + "}"
    text = str(value)
    plain = _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT
    return text if plain else json.dumps(text, ensure_ascii=False)  # JSON's strings are YAML's
