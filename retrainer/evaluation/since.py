"""What differs from the champion: settings, and rows, as `since` of metrics.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from retrainer.formats.model_files import SETTINGS
from retrainer.gate.data_figures import Months
from retrainer.gate.evidence import Champion

Sections = dict[str, dict[str, Any]]

# Sections that make the model; where it was trained, and by what, makes the same one.
_SECTIONS = ("task", "backbone", "training")
SCRATCH = "scratch"
OF_WEIGHTS = ("weights", "weights_sha256", "revision")


def since_champion(champion: Champion | None, settings: Sections, months: Months) -> dict[str, Any] | None:
    """`since` of metrics.json; None without a champion. `settings`: the judged model's (`settings_of`).

    `settings`: "section.key: then → now" of each that differs, null where the champion's cannot be read;
    `rows`: [then, now] of all that came in, null where then is not known; `same_data`: the very rows.
    """
    if champion is None:
        return None
    then = months.then
    return {
        "settings": _differences(champion.directory, settings),
        "rows": [then.rows, months.now.rows] if then else None,
        "same_data": months.same,
    }


def _differences(before: Path, new: Sections) -> list[str] | None:
    try:
        old = settings_of(before)
    except (OSError, ValueError):
        return None
    return [
        f"{section}.{key}: {old[section][key]} → {new[section][key]}"
        for section in _SECTIONS
        for key in sorted({*old.get(section, {})} & {*new.get(section, {})})
        if old[section][key] != new[section][key]
    ]


def settings_of(model: Path) -> Sections:
    """The sections of settings.json; those of a model from scratch without the weights that it never saw."""
    sections: Sections = json.loads((model / SETTINGS).read_text(encoding="utf-8"))
    if sections.get("training", {}).get("strategy") == SCRATCH:
        sections["backbone"] = {
            key: value for key, value in sections.get("backbone", {}).items() if key not in OF_WEIGHTS
        }
    return sections
