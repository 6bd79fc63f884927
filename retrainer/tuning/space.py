"""What is searched: the settings of `tune.search`, or those that are by default for the strategy.

Only settings of training and backbone can be searched: all others decide which rows there are, how they are
judged, or where the training runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from retrainer import extend
from retrainer.errors import SettingError, nearest
from retrainer.settings import Backbone, Range, Section, Training, Tune

Sections = Mapping[str, Mapping[str, Any]]
Values = dict[str, Any]

_DIGITS = 4
# Why these are never searched.
_FIXED = {
    "training.seed": "a seed that happens to suit the validation rows is no better model",
    "training.command": "your own trainer tells no figures by epoch",
    "training.privacy": "it is a promise about the rows, not a means to a better figure",
    "training.calibrate": "it changes no figure of the validation rows while training",
    "training.budget_seconds": "trials that run side by side would end by the clock",
    "backbone.family": "another family has other settings; write a recipe for each",
    "backbone.weights": "other weights are another start; write a recipe for each",
    "backbone.revision": "other weights are another start; write a recipe for each",
}
# Around the recipe's own rate: what was learned before is lost at a rate that is much higher.
_PRETRAINED = ("full", "head-then-full", "last-n")
_NARROW, _WIDE = 4.0, 10.0


def search_space(sections: Mapping[str, Section]) -> dict[str, Range]:
    """`training.learning_rate` → its range. Raises UserError that names what cannot be searched."""
    tune, training, backbone = sections["tune"], sections["training"], sections["backbone"]
    assert isinstance(tune, Tune)
    assert isinstance(training, Training)
    assert isinstance(backbone, Backbone)
    space = dict(tune.search) or _by_strategy(training)
    for key, searched in space.items():
        _require_searchable(key, searched, training, backbone)
    return space


def _by_strategy(training: Training) -> dict[str, Range]:
    def around(value: float, factor: float) -> dict[str, Any]:
        return {"low": float(f"{value / factor:.3g}"), "high": float(f"{value * factor:.3g}"), "log": True}

    factor = _NARROW if training.strategy in _PRETRAINED else _WIDE
    batch, ends = training.batch_size, (1e-5, 5e-3) if training.optimizer == "sgd" else (1e-4, 0.3)
    space = {"training.learning_rate": around(training.learning_rate, factor)}
    if training.backbone_learning_rate and training.strategy not in ("scratch", "frozen"):
        space["training.backbone_learning_rate"] = around(training.backbone_learning_rate, _NARROW)
    space["training.batch_size"] = {"choices": sorted({max(1, batch // 2), batch, 2 * batch})}
    space["training.weight_decay"] = {"low": ends[0], "high": ends[1], "log": True}
    return {key: Range.parse(searched, f"tune.search.{key}") for key, searched in space.items()}


def _require_searchable(key: str, searched: Range, training: Training, backbone: Backbone) -> None:
    section, _, name = key.partition(".")
    fields = _fields(section, backbone)
    if fields is None:
        raise SettingError(
            f"tune.search.{key}: only settings of training and backbone can be searched, as"
            " training.learning_rate; all others decide which rows there are and how they are judged"
        )
    if key in _FIXED:
        raise SettingError(f"tune.search.{key} cannot be searched: {_FIXED[key]}")
    if name not in fields or (fields[name].description or "").startswith("written by resolve"):
        raise SettingError(f"tune.search.{key}: unknown setting{nearest(name, _searchable(section, fields))}")
    for value in searched.choices or (searched.low, searched.high):
        _require_valid(key, value, {"training": training, "backbone": backbone})


def _fields(section: str, backbone: Backbone) -> dict[str, Any] | None:
    if section == "training":
        return dict(Training.model_fields)
    if section != "backbone":
        return None
    options = options_of(backbone)
    return dict(Backbone.model_fields) | (dict(options.model_fields) if options else {})


def options_of(backbone: Backbone) -> type[Section] | None:
    """The further settings of the family; None where it has none."""
    return getattr(extend.load("models", backbone.family, "backbone.family"), "Options", None)


def _searchable(section: str, fields: Mapping[str, Any]) -> list[str]:
    return [name for name in fields if f"{section}.{name}" not in _FIXED]


def _require_valid(key: str, value: Any, sections: Mapping[str, Section]) -> None:
    section, _, name = key.partition(".")
    try:
        plain = sections[section].plain() | {name: value}
        type(sections[section]).parse(plain, section)
        if section == "backbone" and (options := options_of(own := Backbone.parse(plain, section))):
            options.parse(own.options, section)
    except SettingError as error:
        raise SettingError(f"tune.search.{key}: {error}") from None


def is_whole(key: str, backbone: Backbone) -> bool:
    """Whether the setting is a whole number."""
    section, _, name = key.partition(".")
    return bool((_fields(section, backbone) or {})[name].annotation is int)


def own_values(space: Mapping[str, Range], sections: Sections) -> Values | None:
    """What the recipe itself says of the searched settings; None where one of them lies outside its range."""
    values = {key: sections[key.partition(".")[0]].get(key.partition(".")[2]) for key in space}
    return values if all(_within(space[key], value) for key, value in values.items()) else None


def _within(searched: Range, value: Any) -> bool:
    if searched.choices:
        return any(as_word(value) == as_word(choice) for choice in searched.choices)
    assert searched.low is not None
    assert searched.high is not None
    return isinstance(value, int | float) and searched.low <= value <= searched.high


def as_word(value: Any) -> str:
    """A choice as the study keeps it, which knows no lists."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, sort_keys=True)


def readable(value: Any) -> Any:
    """As many digits of a number as a person would write into a recipe."""
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def with_values(sections: Sections, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The sections, these values in them."""
    made = {name: dict(section) for name, section in sections.items()}
    for key, value in values.items():
        section, _, name = key.partition(".")
        made[section][name] = value
    return made


def said(space: Mapping[str, Range]) -> str:
    """In one line, for people."""
    return ", ".join(f"{key} ({_range(searched)})" for key, searched in space.items())


def _range(searched: Range) -> str:
    if searched.choices:
        return ", ".join(map(as_word, searched.choices))
    return f"{searched.low:g} to {searched.high:g}{', log' if searched.log else ''}"
