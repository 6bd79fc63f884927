"""Keys of signatures, from the environment alone: RETRAINER_SIGNING_KEY and RETRAINER_VERIFY_KEY.

Each is a path to a PEM file, or the PEM text itself. What a variable holds is never part of a message: it may
be a key that was pasted wrongly.
"""

from __future__ import annotations

import os
from pathlib import Path

from retrainer.errors import SettingError

SIGNING = "RETRAINER_SIGNING_KEY"
VERIFY = "RETRAINER_VERIFY_KEY"


def signing_key() -> bytes | None:
    """The private key as PEM; None when the variable is not set. Raises UserError when it cannot be read."""
    return _pem(SIGNING)


def verify_key() -> bytes | None:
    """The public key as PEM; None when the variable is not set. Raises UserError when it cannot be read."""
    return _pem(VERIFY)


def _pem(variable: str) -> bytes | None:
    given = os.environ.get(variable, "").strip()
    if not given:
        return None
    if "-----BEGIN" in given:
        return given.encode() + b"\n"
    try:
        return Path(given).expanduser().read_bytes()
    except (OSError, ValueError):
        raise SettingError(
            f"{variable} is neither PEM text nor the path of a file that can be read"
        ) from None
