"""Settings without this machine's paths in them: the same training gives the same bytes anywhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from retrainer.formats.files import sha256_file

# What leads to a place on this machine, also behind `--data=` or a quote: from the root, home, or upwards.
_LOCAL_PATH = re.compile(r"""(?<![^\s=,'"\[({])(?:file://)?(?:/|~[\w.-]*/|(?:\.\./)+)[^\s,;'"\])}]+""")

Sections = dict[str, dict[str, Any]]


def without_paths(sections: Sections) -> Sections:
    """The sections with every local path cut to its last part; weights get their sha256 beside it."""
    kept = {name: _cut(section) for name, section in sections.items()}
    backbone = sections.get("backbone", {})
    weights = Path(str(backbone.get("weights", ""))).expanduser()
    if backbone.get("weights") and weights.exists():
        kept["backbone"]["weights"] = weights.name
        if weights.is_file() and not backbone.get("weights_sha256"):
            kept["backbone"]["weights_sha256"] = sha256_file(weights)
    return kept


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cut(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cut(item) for item in value]
    if isinstance(value, str):
        return _LOCAL_PATH.sub(_last_part, value)
    return value


def _last_part(found: re.Match[str]) -> str:
    return Path(found[0].removeprefix("file://")).name
