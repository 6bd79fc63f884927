"""What a registered version says of its judgement: tags for rules and numbers, the card as description."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.findings import data_tags
from retrainer.formats.report import CARD
from retrainer.need.words import rows_to_next_point
from retrainer.services.readers import TEST_SAMPLE, TEST_SHA256, TRAIN_ROWS, RegisteredVersion
from retrainer.texts import shortened

if TYPE_CHECKING:
    from mlflow import MlflowClient

# What MLflow's databases hold; a tag is for tables, its sentence stands in the report.
_DESCRIPTION_CHARACTERS = 5000
_TAG_CHARACTERS = 250
_CUT = "\n\n… the rest is in `model_card.md` of the run that evaluated it."
_NOT_IN_A_KEY = re.compile(r"[^A-Za-z0-9_]+")
# Why the verdict is what it is, in words.
REASON = "gate.reason"
# Before a rule's name.
RULE = "gate.rule."
# Said by the rules and the report at length.
_NOT_TAGS = ("verdict", "reasons", "rules", "champion", "decision")


def judgement_tags(figures: Mapping[str, Any]) -> dict[str, str]:
    """Tags from metrics.json: the test set, `gate.reason` in words, `gate.…` for each number, `gate.rule.…`
    for each rule, `data.…` for what was found in the data, `privacy.…` and `membership.…` for what its
    training rows lose, and `rows_to_next_point`, which is of a cheap head."""
    gate, test_set = figures["gate"], figures.get("test_set", {})
    tags = {TEST_SHA256: test_set["sha256"], "test_uses": str(test_set["uses"])} if test_set else {}
    if sample := test_set.get("sample"):  # a report of an older version has none
        tags[TEST_SAMPLE] = sample
    tags |= _numbers({name: value for name, value in gate.items() if name not in _NOT_TAGS}, "gate")
    if reasons := gate.get("reasons"):
        tags[REASON] = shortened("; ".join(reasons), _TAG_CHARACTERS)
    for rule in gate.get("rules", ()):
        name = f"{RULE}{_key(rule['name'])}"
        # Two values of a slice may have one key.
        while name in tags:
            name += "_"
        outcome = "holds" if rule["passed"] else "fails"
        value = "nothing measured" if rule["value"] is None else f"{rule['value']:.6g}"
        tags[name] = f"{outcome}: {value}, bound {rule['bound']:.6g}"
    tags |= _numbers(figures.get("details", {}).get("numbers", {}), "details")
    tags |= _numbers((figures.get("privacy") or {}).get("model") or {}, "privacy")
    for part in ("cost", "training_cost", "membership"):
        tags |= _numbers(figures.get(part) or {}, part)
    if train_rows := figures.get("data", {}).get("rows", {}).get("train"):
        tags[TRAIN_ROWS] = str(train_rows)
    need = figures.get("need") or {"missing": "an older version"}
    if "missing" not in need:
        tags["rows_to_next_point"] = rows_to_next_point(need)
    return tags | data_tags(figures.get("data", {}))


def _numbers(values: Mapping[str, Any], path: str) -> dict[str, str]:
    """Every number, word and truth value below `values`, by its path; no lists, and nothing that is null."""
    found: dict[str, str] = {}
    for name, value in values.items():
        here = f"{path}.{_key(name)}"
        if isinstance(value, Mapping):
            found |= _numbers(value, here)
        elif isinstance(value, float):
            found[here] = f"{value:.6g}"
        elif isinstance(value, str | int):
            found[here] = str(value)[:_TAG_CHARACTERS]
    return found


def _key(name: str) -> str:
    return _NOT_IN_A_KEY.sub("_", name).strip("_")[:100]


def describe(mlflow: MlflowClient, version: RegisteredVersion, report: Path) -> None:
    """Makes the report's model card the version's description; a report of an older version has none."""
    if (report / CARD).is_file():
        text = description((report / CARD).read_text(encoding="utf-8"))
        mlflow.update_model_version(version.name, version.version, text)


def description(card: str) -> str:
    """The card, or as many of its whole lines as MLflow takes, with a note."""
    if len(card) <= _DESCRIPTION_CHARACTERS:
        return card
    kept, _, _ = card[: _DESCRIPTION_CHARACTERS - len(_CUT)].rpartition("\n")
    return kept + _CUT
