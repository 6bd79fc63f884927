"""Settings without this machine's paths in them: the same training gives the same bytes anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrainer.formats.files import sha256_file

Sections = dict[str, dict[str, Any]]


def without_paths(sections: Sections) -> Sections:
    """The sections with every local path cut to its last part; weights get their sha256 beside it."""
    told = {name: _cut(section) for name, section in sections.items()}
    backbone = sections.get("backbone", {})
    weights = Path(str(backbone.get("weights", ""))).expanduser()
    if backbone.get("weights") and weights.exists():
        told["backbone"]["weights"] = weights.name
        if weights.is_file() and not backbone.get("weights_sha256"):
            told["backbone"]["weights_sha256"] = sha256_file(weights)
    return told


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cut(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cut(item) for item in value]
    if isinstance(value, str):
        return " ".join(_last_part(word) for word in value.split(" "))
    return value


def _last_part(word: str) -> str:
    return Path(word).name if word.startswith(("/", "~/")) and Path(word).name else word
