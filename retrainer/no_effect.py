"""Settings that a recipe states and that change nothing beside its other settings: one line for each.

Nothing is refused here: the run gives what was asked for, only not by way of that setting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Sections = Mapping[str, Any]

# Keys of `task:` that draw another form of a row in each epoch.
AUGMENTATIONS = (
    "shift",
    "rotate_degrees",
    "scale",
    "flip",
    "flip_vertical",
    "colour",
    "randaugment",
    "speed",
    "vocal_tract",
    "equaliser",
    "background_db",
    "silence_seconds",
    "shift_seconds",
    "noise",
    "frequency_masks",
    "time_masks",
    "crop_seconds",
)


@dataclass(frozen=True)
class Rule:
    """`keys` of `section` change nothing where `applies`, for the reason `why`, which ends with the cure."""

    section: str
    keys: tuple[str, ...]
    applies: Callable[[Sections], bool]
    why: str


def _embedded_once(sections: Sections) -> bool:
    """A frozen body reads each row once, as it is; where the task keeps no features, in every step."""
    from retrainer.tasks import make_task

    training = sections["training"]
    frozen = training.strategy == "frozen" and training.cached_views == 1 and not training.command
    return frozen and "features" in make_task(sections["task"]).abilities


def _starts_at_random(sections: Sections) -> bool:
    from retrainer import extend

    if sections["training"].strategy != "scratch" or sections["training"].command:
        return False
    family = extend.load("models", sections["backbone"].family, "backbone.family")
    return sections["backbone"].weights != "none" and not family.SHAPED_BY_WEIGHTS


RULES: tuple[Rule, ...] = (
    Rule(
        "task",
        AUGMENTATIONS,
        _embedded_once,
        "training.strategy frozen reads each row once, as it is; set training.cached_views: 4 (so many"
        " augmented views are read) or another strategy",
    ),
    Rule(
        "backbone",
        ("weights",),
        _starts_at_random,
        "training.strategy scratch begins with random values; set training.strategy: frozen or full",
    ),
    Rule(
        "training",
        ("backbone_learning_rate",),
        lambda sections: sections["training"].strategy in ("frozen", "scratch"),
        "training.learning_rate is the only rate of this strategy; leave it out",
    ),
    Rule(
        "training",
        ("epochs", "learning_rate", "batch_size", "dropout", "weight_decay", "ema_decay"),
        lambda sections: sections["task"].options.get("head") == "prototypes",
        "task.head: prototypes reads each row once and trains nothing; set task.head: linear",
    ),
    Rule(
        "split",
        ("test_from",),
        lambda sections: sections["split"].by != "time",
        "the test is drawn by hash; set split.by: time",
    ),
    Rule(
        "gate",
        ("margin",),
        lambda sections: sections["gate"].policy != "not-worse",
        "only gate.policy: not-worse reads it",
    ),
    Rule(
        "retrain",
        ("alpha", "min_new_rows", "growth"),
        lambda sections: sections["retrain"].policy != "drift",
        "only retrain.policy: drift reads it",
    ),
)


def without_effect(sections: Sections, stated: Mapping[str, Iterable[str]]) -> list[str]:
    """One line for each stated key that changes nothing; `stated`: section → the keys that a person wrote."""
    return [
        f"{rule.section}.{key} has no effect: {rule.why}"
        for rule in RULES
        for key in rule.keys
        if key in stated.get(rule.section, ())
        and _set(sections[rule.section], key)
        and rule.applies(sections)
    ]


def _set(section: Any, key: str) -> bool:
    """Whether it asks for anything: an augmentation of 0 or false does not."""
    return bool(section.plain().get(key))
