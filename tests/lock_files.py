"""The lock files, as the tests of the images read them."""

from __future__ import annotations

import re
from pathlib import Path


def pins(lock: Path) -> dict[tuple[str, str], frozenset[str]]:
    """(name, version) → its hashes."""
    entries = re.split(r"\n(?=\S)", lock.read_text())
    found = {}
    for entry in entries:
        if match := re.match(r"([\w.-]+)==([^\s;]+)", entry):
            found[match[1], match[2]] = frozenset(re.findall(r"--hash=(sha256:[0-9a-f]{64})", entry))
    return found
