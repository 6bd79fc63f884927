"""The one file that imports Opacus, which the extra `privacy` brings."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from retrainer.errors import SettingError


@lru_cache(maxsize=1)
def opacus() -> Any:
    """The package. It sets up the root logger when it is imported, which is undone."""
    handlers = list(logging.root.handlers)
    try:
        import opacus
        import opacus.accountants.utils
        import opacus.optimizers
        import opacus.validators
    except ModuleNotFoundError:
        raise SettingError(
            "training.privacy needs opacus, which is not installed; pip install 'retrainer[privacy]'"
        ) from None
    finally:
        logging.root.handlers[:] = handlers
    return opacus


@contextmanager
def ignored(warning: str) -> Iterator[None]:
    """The accountant asks another one, less exactly, how far its grid must reach; and features, as the
    numbers of words, need no gradient."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", warning, UserWarning)
        yield
