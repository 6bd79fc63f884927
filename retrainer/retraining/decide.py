"""Train, or leave it: what is new since the last training, and by policy `drift` whether it differs.

decision.json:
    format_version, name, policy, alpha
    choice          "train" or "stop"
    reason          of train: always, no-champion, new-settings, new-data, no-statistics, relabelled, drift,
                    grown; of stop: nothing-new, too-few-rows, no-drift
    why             the same in a sentence
    dataset_sha256  today's
    champion        null, or {"version", "model_sha256", "dataset_sha256"}
    settings        [what differs from the newest version's, as "training.epochs: 3 → 5"]
    code            null, or {"then", "now"}: told where the code is another; it is no reason by itself
    rows            {name: count}: "new" and "gone" beside the champion's, "independent" (of the new, one a
                    component), "reference" and "sampled" (of the champion's), "compared" and "relabelled"
    tests           {"labels" | "inputs": {"p_value", "adjusted" (Holm's), "parts" {statistic: p-value},
                    "largest" [where the difference is]}}
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from retrainer.formats._paths import Sections, without_paths
from retrainer.formats.files import content_digest
from retrainer.formats.model_files import WHAT_IS_TRAINED, training_digest
from retrainer.retraining.drift import Drift, drift_since, new_rows
from retrainer.retraining.last_training import code_of, keys_of, settings_of
from retrainer.services import lineage, lookup
from retrainer.services.readers import RegisteredVersion
from retrainer.services.runs import DATASET_SHA256, TRAINING_SHA256
from retrainer.services.scratch import scratch_directory
from retrainer.settings import Retrain

FORMAT_VERSION = 1
FILE = "decision.json"
_SHOWN_SETTINGS = 5


@dataclass(frozen=True)
class Request:
    """What a run would train, `sections` as train gets them, and under which name it would register."""

    name: str
    dataset: Path
    sections: Sections
    retrain: Retrain


@dataclass(frozen=True)
class Decision:
    choice: Literal["train", "stop"]
    reason: str
    why: str
    champion: RegisteredVersion | None = None
    newest: RegisteredVersion | None = None
    settings: tuple[str, ...] = ()
    found: Drift = field(default_factory=Drift)


def decide(request: Request) -> Decision:
    """By the policy; `always` reads nothing. Raises UserError when the registry's files are not to be had."""
    policy = request.retrain.policy
    if policy == "always":
        return Decision("train", "always", "retrain.policy is always")
    champion = lookup.by_alias(request.name, lookup.CHAMPION)
    versions = lookup.usable_versions(request.name)
    if champion is None or not versions:
        return Decision("train", "no-champion", f"{request.name} has no champion yet")
    training, data = training_digest(_trained_with(request)), content_digest(request.dataset)
    for version in versions:
        if (version.tags.get(DATASET_SHA256), version.tags.get(TRAINING_SHA256)) == (data, training):
            why = f"version {version.version} was trained on exactly these rows, with these settings"
            return Decision("stop", "nothing-new", why, champion, version)
    newest = versions[-1]
    with scratch_directory() as scratch:
        if newest.tags.get(TRAINING_SHA256) != training:
            return _new_settings(request, champion, newest, scratch)
        if policy == "new-data":
            found = Drift("train", "new-data", *_new_data(champion, request.dataset, scratch))
        else:
            found = drift_since(champion, request.dataset, request.retrain, scratch)
    return Decision(found.choice, found.reason, found.why, champion, newest, found=found)


def _trained_with(request: Request) -> Sections:
    return without_paths({name: request.sections[name] for name in WHAT_IS_TRAINED})


def _new_settings(
    request: Request, champion: RegisteredVersion, newest: RegisteredVersion, scratch: Path
) -> Decision:
    before = settings_of(newest, scratch)
    changed = [
        f"{section}.{key}: {before.get(section, {}).get(key)} → {value}"
        for section, values in _trained_with(request).items()
        for key, value in values.items()
        if before.get(section, {}).get(key) != value
    ]
    shown = "; ".join(changed[:_SHOWN_SETTINGS]) or "it does not say with which"
    why = f"the settings differ from those of version {newest.version}, the newest ({shown})"
    return Decision("train", "new-settings", why, champion, newest, settings=tuple(changed))


def plain(request: Request, decision: Decision) -> dict[str, Any]:
    """The content of decision.json."""
    champion = decision.champion
    return {
        "format_version": FORMAT_VERSION,
        "name": request.name,
        "policy": request.retrain.policy,
        "alpha": request.retrain.alpha,
        "choice": decision.choice,
        "reason": decision.reason,
        "why": decision.why,
        "dataset_sha256": content_digest(request.dataset),
        "champion": champion
        and {
            "version": champion.version,
            "model_sha256": champion.model_sha256,
            "dataset_sha256": champion.tags.get(DATASET_SHA256, ""),
        },
        "settings": list(decision.settings),
        "code": _other_code(decision.newest),
        "rows": dict(decision.found.rows),
        "tests": dict(decision.found.tests),
    }


def _other_code(newest: RegisteredVersion | None) -> dict[str, str] | None:
    """Where the newest version names its code, and it is another than what runs now."""
    then, now = code_of(newest.tags if newest else {}), code_of(lineage.of_process())
    return {"then": then, "now": now} if then and now and then != now else None


def _new_data(champion: RegisteredVersion, dataset: Path, scratch: Path) -> tuple[str, dict[str, int]]:
    rows = new_rows(keys_of(champion, scratch), dataset)
    if not rows:
        return "the rows are others than before", rows
    return f"{rows['new']:,} rows are new and {rows['gone']:,} gone since the champion was trained", rows
