"""Which of this checkout's DVC remotes hold a directory."""

from __future__ import annotations

import sys
from pathlib import Path

from retrainer.services.address import without_credentials

_PATIENCE_SECONDS = 5
_SHOWN_CHARACTERS = 200


def remotes_with(md5: str, root: Path) -> list[str]:
    """The remotes' names, the default one first; one that cannot be asked is named on stderr and left out."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        default = repo.config["core"].get("remote")
        names = sorted(repo.config["remote"], key=lambda name: (name != default, name))
        return [name for name in names if _holds(repo, name, md5)]


def _holds(repo: object, name: str, md5: str) -> bool:
    config = repo.config["remote"][name]  # type: ignore[attr-defined]
    if str(config.get("url", "")).startswith("s3://"):
        config.setdefault("connect_timeout", _PATIENCE_SECONDS)
        config.setdefault("read_timeout", _PATIENCE_SECONDS)
    try:
        return bool(repo.cloud.get_remote_odb(name=name).exists(md5))  # type: ignore[attr-defined]
    except Exception as error:  # each kind of remote raises its own
        reason = without_credentials(" ".join(str(error).split()))[:_SHOWN_CHARACTERS]
        print(f"note: DVC's remote '{name}' cannot be asked ({reason})", file=sys.stderr)
        return False
