"""Whether torchrun, or anything that sets the same variables, has started this process as one of several."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from retrainer.errors import SettingError

if TYPE_CHECKING:
    from retrainer.training._torchrun import Launched

_SIZE = "WORLD_SIZE"
_NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def launched() -> Launched | None:
    """This process's place among them; None where it is alone. Raises UserError for half an environment."""
    size = _number(_SIZE, "1")
    if size < 2:
        return None
    missing = [name for name in _NEEDED if not os.environ.get(name)]
    if missing:
        raise SettingError(
            f"the environment has {_SIZE} without {' and '.join(missing)}: start the step by torchrun, or"
            f" unset {_SIZE}"
        )
    from retrainer.training._torchrun import Launched

    place = Launched(
        _number("RANK"),
        size,
        _number("LOCAL_RANK"),
        _number("LOCAL_WORLD_SIZE", "1"),
        _number("TORCHELASTIC_RESTART_COUNT", "0"),
    )
    if not place.rank < size:
        raise SettingError(f"the environment has RANK {place.rank}, which must be below {_SIZE}, {size}")
    return place


def _number(name: str, default: str = "") -> int:
    text = os.environ.get(name) or default
    if not text.isascii() or not text.isdigit():
        raise SettingError(f"the environment has {name} {text!r}, no number; start the step by torchrun")
    return int(text)
