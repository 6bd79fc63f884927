"""What a registered version still tells of its training: settings, rows by key, profile, code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from retrainer.formats._paths import Sections
from retrainer.formats.model_files import SETTINGS
from retrainer.formats.profile import FILE as PROFILE
from retrainer.formats.profile import Profile, read_profile
from retrainer.formats.row_keys import FILE as ROW_KEYS
from retrainer.formats.row_keys import INHERITED, read_row_keys
from retrainer.services import download, lineage, tracking
from retrainer.services.readers import RegisteredVersion

_EVALUATION = "evaluation_run_id"


def settings_of(version: RegisteredVersion, into: Path) -> Sections:
    """The sections that its training was given."""
    file = download.model_files(version, [SETTINGS], into)[SETTINGS]
    found: Sections = json.loads(file.read_text(encoding="utf-8"))
    return found


def keys_of(version: RegisteredVersion, into: Path) -> np.ndarray | None:
    """uint64: the keys of all rows that it was trained, chosen and tested on; None where it does not say.
    Those that only the model it started from was trained on are none of its own.
    """
    file = download.model_files(version, [ROW_KEYS], into).get(ROW_KEYS)
    if file is None:
        return None
    return np.concatenate([keys for split, keys in read_row_keys(file.parent).items() if split != INHERITED])


def profile_of_version(version: RegisteredVersion, into: Path) -> Profile | None:
    """The profile of the rows that it was trained with, kept by the run that judged it; None without one."""
    run_id = version.tags.get(_EVALUATION)
    file = tracking.fetch_artifact(run_id, PROFILE, into) if run_id else None
    return None if file is None else read_profile(file)


def code_of(tags: Mapping[str, str]) -> str:
    """The commit, else the image; empty when neither is known."""
    return next((tags[name] for name in lineage.CODE if tags.get(name)), "")
