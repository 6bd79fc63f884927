"""Privacy of the judged model and of the champion: as metrics.json has it, and how it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrainer.errors import UserError
from retrainer.evaluation.request import Request
from retrainer.evaluation.words import Report, number
from retrainer.formats._description import read_description
from retrainer.formats.privacy import PRIVACY, sentences
from retrainer.texts import plural


def privacy_facts(request: Request) -> dict[str, Any]:
    """{"model": …, "champion": …}: of a private training what it spent (formats/privacy.py), else null.

    `champion` is null too where there is none, or where its files cannot be read.
    """
    champion = request.champion
    return {
        "model": _facts(request.model),
        "champion": None if champion is None else _facts(champion.directory),
    }


def _facts(model: Path) -> dict[str, Any] | None:
    try:
        facts: dict[str, Any] | None = read_description(model).get(PRIVACY)
    except UserError:  # a champion of a format that is not read here
        return None
    return facts


def of_training(report: Report) -> list[str]:
    """What is said of private trainings, in sentences; nothing where neither model is of one."""
    found = report.get("privacy") or {}  # a report of an older version has none
    model, champion = found.get("model"), found.get("champion")
    said = sentences(model) if model else []
    if report["champion"] and not report["champion"]["same"]:
        version = report["champion"]["version"]
        if model and not champion:
            said.append(f"the champion, version {version}, was trained without privacy")
        if champion and not model:
            said.append(
                f"the champion, version {version}, was trained with privacy (epsilon"
                f" {champion['epsilon']:.3g}), this model without"
            )
    return said


def of_attack(report: Report) -> str:
    """What the membership-inference attack found, in a sentence; empty where it was not tried."""
    found = report.get("membership")  # a report of an older version has none
    if not found:
        return ""
    if found["auc"] is None:
        return f"whether the model's answers give training rows away was not tested: {found['note']}"
    rows = found["test_rows"]
    share = found["found_at_1_percent"]
    at_one = "" if share is None else f"; {100 * share:.1f}% of them with 1% of false alarms"
    return (
        f"by the loss of a row, training rows are told from others with AUC {number(found['auc'], rows)}"
        f" ({number(found['low'], rows)} – {number(found['high'], rows)}; 0.5 is guessing){at_one}"
        f" ({plural(found['train_rows'], 'training row')}, {plural(rows, 'test row')})"
    )


def noteworthy(report: Report) -> list[str]:
    """What a person must know at once."""
    attacked = (report.get("membership") or {}).get("noteworthy")
    return [*of_training(report), *([of_attack(report)] if attacked else [])]
