"""YAML as settings need it: plain values, each key once, nothing that grows when it is read."""

from __future__ import annotations

from typing import Any

import yaml

from retrainer.errors import SettingError

# Settings are a few kilobytes and a few levels deep.
MAX_CHARACTERS = 2**20
MAX_LEVELS = 20

_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Safe):
    """YAML's own rule, which its loaders do not hold to: a mapping has each key once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if (word := str(key.value)) in seen:
                raise yaml.MarkedYAMLError(problem=f"'{word}' stands twice", problem_mark=key.start_mark)
            seen.add(word)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, AttributeError):  # what the loader meets in a date such as 2024-13-01
            problem = f"{node.value!r:.60} is not of the kind that it looks like"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None


def parse_yaml(text: str, where: str) -> Any:
    """The plain value that `text` holds. Raises UserError that begins with `where` and names the line."""
    if len(text) > MAX_CHARACTERS:
        raise SettingError(f"{where}: more than {MAX_CHARACTERS:,} characters; these are no settings")
    try:
        _check_form(text, where)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a safe loader)
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        reason = " ".join(f"{error.context or ''} {error.problem or ''}".split())
        raise SettingError(f"{where}: not valid YAML{line}: {reason}; mend or quote it") from None
    except (yaml.YAMLError, UnicodeEncodeError) as error:  # the second: half a character, of a command line
        raise SettingError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None


def _check_form(text: str, where: str) -> None:
    """Refuses what costs far more than its size, before anything is built: a few aliases can stand for a
    billion values, and some thousand brackets are more than the loader's stack holds."""
    level = 0
    event: Any
    for event in yaml.parse(text, Loader=_Safe):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise SettingError(f"{where}: the alias *{event.anchor} in line {line} is not read; write it out")
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if level > MAX_LEVELS:
            raise SettingError(f"{where}: more than {MAX_LEVELS} levels deep in line {line}; no setting is")
