"""One digest over all that decides what a training makes: it never goes on from another one's checkpoint."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from retrainer.code.digests import Reach, project_code
from retrainer.formats.dataset import Dataset
from retrainer.formats.files import digest_of, hash_files, sha256_file

# All code whose edit can change a model is what this module runs: unlike that of the step, without services.
# A plug-in's counts, and is in the settings too.
_TRAINING = "retrainer.training.train"
_COMMIT = re.compile(r"[0-9a-f]{40}")


def inputs_digest(data: Dataset, sections: dict[str, dict[str, Any]], weights: Path | str | None) -> str:
    """Sha256 over the dataset's files, the resolved sections, the weights and this library's own code.

    The files rather than the content hash, which is the same for rows in another order.
    """
    code = Reach(sections, project_code(Path())).digest(_TRAINING)
    return digest_of([data.manifest["files"], sections, _identity(sections["backbone"], weights), code])


def _identity(backbone: dict[str, Any], weights: Path | str | None) -> str:
    """What the settings do not tell of the weights: nothing when they pin them, as `resolve` does."""
    if weights is None or backbone["weights_sha256"] or _COMMIT.fullmatch(backbone["revision"]):
        return ""
    if isinstance(weights, str):
        return weights
    return sha256_file(weights) if weights.is_file() else digest_of(hash_files(weights, leave_out=()))
