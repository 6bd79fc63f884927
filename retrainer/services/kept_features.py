"""The features that a frozen body has made of the training rows, kept for the evaluation that follows.

They lie beside the checkpoints of this machine, a file a model, and the newest two stay:

    <RETRAINER_CHECKPOINTS>/features/<time>-<model_sha256>-<sha256 of the file>.npy

Nothing depends on them but time: where there is none, as in another pod, evaluate computes them anew.
Legend: M training rows, D feature width.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.errors import UserError
from retrainer.formats.files import sha256_file
from retrainer.messages import logger
from retrainer.services.checkpoint_directory import DirectoryStore, named_directory

if TYPE_CHECKING:
    import numpy as np

FOLDER = "features"
KEPT = 2
_NAME = re.compile(r"\d{11}-(?P<model>[0-9a-f]{64})-(?P<sha256>[0-9a-f]{64})\.npy")


class KeptFeatures:
    """Those of one training; without a directory for checkpoints, nothing is kept."""

    def __init__(self, directory: Path | None) -> None:
        self._store = None if directory is None else DirectoryStore(directory, FOLDER)
        self._features: np.ndarray | None = None

    def take(self, features: np.ndarray) -> None:
        """float32 [M, D]; they are written once the model is."""
        self._features = features

    def keep(self, model_sha256: str) -> None:
        """A full disk does not end the training: then the evaluation takes longer."""
        import numpy as np

        if self._store is None or self._features is None:
            return
        try:
            with self._store.aside() as aside:
                with aside.open("wb") as file:
                    np.save(file, self._features, allow_pickle=False)
                self._store.publish(aside, f"{int(time.time()):011}-{model_sha256}-{sha256_file(aside)}.npy")
            for old in sorted(filter(_NAME.fullmatch, self._store.names()))[:-KEPT]:
                self._store.delete(old)
        except (OSError, UserError) as error:
            logger("train").warning("the training rows' features are not kept for evaluate: %s", error)


def features_of(model_sha256: str) -> np.ndarray | None:
    """float32 [M, D] in the order of the training rows; None where there is no whole file of this model."""
    import numpy as np

    directory = named_directory()
    if directory is None:
        return None
    store = DirectoryStore(directory, FOLDER)
    try:
        for name in sorted(store.names(), reverse=True):
            found = _NAME.fullmatch(name)
            if found is None or found["model"] != model_sha256:
                continue
            with store.local(name) as path:
                if sha256_file(path) == found["sha256"]:
                    features: np.ndarray = np.load(path, allow_pickle=False)
                    return features if features.dtype == np.float32 else None
    except (OSError, ValueError, UserError):
        return None
    return None
