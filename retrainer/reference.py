"""docs/reference.md: every key of the settings and of model.json, made from their own descriptions.

`python -m retrainer.reference` writes it, and so does `make docs`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from retrainer import extend
from retrainer.formats.files import write_text
from retrainer.formats.keys import Keys, inner_keys
from retrainer.formats.model_keys import PREPROCESSING, Description
from retrainer.settings import SECTIONS, SHORTHAND, Section

PAGE = Path("docs/reference.md")
_INTRO = """\
# Every key of the settings

This page is made from the settings' own descriptions (`make docs`). A recipe, `recipes/NAME.yaml`, overrides
`params.yaml`, key by key; a section that picks another `kind` or `family` starts afresh. What neither says
has the default that stands here. `make resolve RECIPE=NAME` lists what a recipe sets, what it inherits from
`params.yaml`, and what of it has no effect. A recipe that names a task and no backbone gets that task's
start: weights that need no download. `make init DATA=path` writes a recipe for your data: [Your own
data](start.md). Behind them stand the keys of [a model's own file](#modeljson).

```yaml
source: {path: data/train.csv, test_path: data/test.csv}   # without test_path a share is held out
```
"""
_CHOSEN = (
    ("tasks", "task.kind", "Keys of a task"),
    ("models", "backbone.family", "Keys of a model family"),
    ("data/sources", "source.kind", "Keys of a source"),
)
_MODEL_INTRO = """\
What a model says of itself, in its directory. The pipeline writes it, and so does a [trainer of your
own](own-trainer.md). Evaluation, registry, `make predict`, `make serve` and `make export` load a model by one
function (`load_network` in `retrainer/formats/network.py`), so each of them reads all of these keys, and a
missing or wrong one is named wherever the model is opened."""
_CONFIG_INTRO = """\
What `config` of `model.json` holds for each `family`. A family of your own in `plugins/` has its own keys."""
_KINDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_PLURAL = {"text": "texts", "whole number": "whole numbers", "number": "numbers"}
_BY_RESOLVE = "written by resolve"
_BOUNDS = (("ge", "≥ {}"), ("gt", "> {}"), ("le", "≤ {}"), ("lt", "< {}"))


def reference() -> str:
    """The page."""
    parts = [_INTRO]
    for name, section in SECTIONS.items():
        word = f" In one word, as `{name}: {{word}}`, it is `{SHORTHAND[name]}`." if name in SHORTHAND else ""
        parts += [f"## {name}", _about(section) + word.format(word="WORD"), _table(section)]
    for package, setting, title in _CHOSEN:
        parts += [f"## {title}", f"Which file reads them, `{setting}` says."]
        for name in extend.builtin_names(package):
            module = extend.load(package, name, setting)
            parts.append(f"### {setting}: {name}")
            parts.append(str(module.__doc__).strip().splitlines()[0])
            if hasattr(module, "Options"):
                parts.append(_table(module.Options))
    parts += _model()
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _model() -> Iterator[str]:
    """What a model says of itself."""
    yield "## model.json"
    yield _MODEL_INTRO
    yield _about(Description)
    yield _keys_table(Description)
    for name, keys in PREPROCESSING.items():
        yield f"### preprocessing: {name}"
        yield _about(keys)
        yield _keys_table(keys)
    yield "## config by family"
    yield _CONFIG_INTRO
    for name in extend.builtin_names("models"):
        yield f"### config: {name}"
        yield _keys_table(extend.load("models", name, "family").Config)


def _keys_table(keys: type[Keys]) -> str:
    return "\n".join(["| key | is | default | meaning |", "|---|---|---|---|", *_keys_rows(keys, "")])


def _keys_rows(keys: type[Keys], above: str) -> Iterator[str]:
    for key, field in keys.model_fields.items():
        needed = field.is_required()
        default = "must be there" if needed else "none" if field.default is None else _default(field)
        yield f"| `{above}{key}` | {_kind(field.annotation)} | {default} | {_meaning(field)} |"
        if inner := inner_keys(field):
            yield from _keys_rows(inner, f"{above}{key}.")


def _kind(annotation: Any) -> str:
    """A type of JSON in words; None, for what may be left out, is none."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (UnionType, Union):
        return _kind(next(kind for kind in inner if kind is not type(None)))
    if origin is Annotated:
        return _kind(inner[0])
    if origin is Literal:
        return _kind(type(inner[0]))
    if origin is list:
        return f"list of {_PLURAL.get(_kind(inner[0]), _kind(inner[0]))}"
    return _KINDS.get(origin or annotation, "object")


def _about(section: type[BaseModel]) -> str:
    """Its own docstring's first paragraph; a class without one has pydantic's or its base's."""
    text = section.__dict__.get("__doc__") or ""
    return " ".join(text.strip().split("\n\n")[0].split())


def _table(section: type[Section]) -> str:
    rows = list(_rows(section, ""))
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows]) if rows else ""


def _rows(section: type[Section], above: str) -> Iterator[str]:
    for key, field in section.model_fields.items():
        if (field.description or "").startswith(_BY_RESOLVE):
            continue
        nested = _nested(field)
        default = "" if nested and isinstance(field.default, Section) else _default(field)
        yield f"| `{above}{key}` | {default} | {_meaning(field)} |"
        if nested:
            yield from _rows(nested, f"{above}{key}.{_index(field)}")


def _nested(field: FieldInfo) -> type[Section] | None:
    """The section that stands inside, or in each entry of a list or mapping."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def _index(field: FieldInfo) -> str:
    return {dict: "NAME.", tuple: "[…]."}.get(get_origin(field.annotation), "")  # type: ignore[arg-type]


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "must be set"
    value = field.default
    if isinstance(value, tuple) and any(isinstance(one, Section) for one in value):
        value = [{key: word for key, word in one.plain().items() if word} for one in value]
    return _code(_word(value))


def _word(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _code(word: str) -> str:
    return f"`{word}`" if word else "empty"


def _meaning(field: FieldInfo) -> str:
    """The description, and what values it can have where that says more than the default."""
    text = (field.description or "").replace("|", "\\|")
    kinds = [field.annotation, *get_args(field.annotation)]
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if words and not isinstance(words[0], bool):
        text += f" ({', '.join(_code(_word(word)) for word in words)})"
    bounds = [
        form.format(f"{value:g}")
        for name, form in _BOUNDS
        for value in [getattr(mark, name, None) for mark in field.metadata]
        if isinstance(value, int | float)
    ]
    return text + (f" ({', '.join(bounds)})" if bounds else "")


def main() -> None:
    write_text(PAGE, reference())


if __name__ == "__main__":
    main()
