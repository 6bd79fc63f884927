"""Whether the sections of a recipe are valid, each and together, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retrainer import extend
from retrainer.errors import SettingError, nearest
from retrainer.settings import SECTIONS, Section
from retrainer.tasks import make_task


def validate(merged: Mapping[str, Any]) -> dict[str, Section]:
    """Every section, with the chosen files' own keys checked."""
    sections = {name: kind.parse(merged.get(name, {}), name) for name, kind in SECTIONS.items()}
    for name, package, key in (("task", "tasks", "kind"), ("backbone", "models", "family")):
        section: Any = sections[name]
        module = extend.load(package, getattr(section, key), f"{name}.{key}")
        if hasattr(module, "Options"):
            module.Options.parse(section.options, name)
    _refuse_unknown_slices(sections)
    _refuse_unsuited_metric(sections)
    return sections


def _refuse_unsuited_metric(parts: Mapping[str, Any]) -> None:
    """Evaluation would refuse it too, but only after the training."""
    chosen = parts["gate"].metric
    if not chosen:
        return
    target = getattr(extend.load("metrics", chosen, "gate.metric"), "TARGET", None)
    task = make_task(parts["task"])
    if target is not None and target not in task.target_columns:
        raise SettingError(
            f"gate.metric: {chosen} compares {target}, which {parts['task'].kind} does not predict; set one"
            f" of {', '.join(task.metrics)}, or a plug-in's"
        )


def _refuse_unknown_slices(parts: Mapping[str, Any]) -> None:
    """Evaluation would refuse them too, but only after the training."""
    asked = {"evaluation.slices": parts["evaluation"].slices, "gate.slice_floors": parts["gate"].slice_floors}
    if not any(asked.values()):
        return  # and imports no numpy
    from retrainer.evaluation.slices import CLASS, COMMON, own_slices

    known = [CLASS, *own_slices(make_task(parts["task"])), *COMMON, *parts["source"].metadata]
    for setting, names in asked.items():
        for name in names:
            if name not in known:
                raise SettingError(
                    f"{setting}: there is no slice {name!r}{nearest(name, known)}; there are"
                    f" {', '.join(known)} (name further columns in source.metadata)"
                )
