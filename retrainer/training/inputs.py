"""All that decides what a training makes: the dataset, the settings, and the weights that it starts from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from retrainer.code.digests import Reach, project_code
from retrainer.formats.dataset import Dataset
from retrainer.formats.files import digest_of, hash_files, sha256_file
from retrainer.settings import Backbone, Compute, Task, Training

# All code whose edit can change a model is what this module runs: unlike that of the step, without services.
# A plug-in's counts, and is in the settings too.
_TRAINING = "retrainer.training.train"
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Settings(NamedTuple):
    """The sections that training reads."""

    task: Task
    backbone: Backbone
    training: Training
    compute: Compute

    @classmethod
    def parse(cls, plain: dict[str, dict[str, Any]]) -> Settings:
        return cls(
            Task.parse(plain["task"], "task"),
            Backbone.parse(plain["backbone"], "backbone"),
            Training.parse(plain["training"], "training"),
            Compute.parse(plain["compute"], "compute"),
        )

    def plain(self) -> dict[str, dict[str, Any]]:
        return {name: section.plain() for name, section in self._asdict().items()}


@dataclass(frozen=True)
class Inputs:
    """Equal inputs make the same model, to the byte.

    `dataset` is a directory, and `settings.compute` resolved. `weights` is what the family starts from: a
    file or directory, or a name that it knows; with None it starts from random values.
    """

    dataset: Path
    settings: Settings
    weights: Path | str | None = None

    @cached_property
    def data(self) -> Dataset:
        """Raises UserError where the dataset's hashes do not hold."""
        return Dataset(self.dataset)

    def digest(self) -> str:
        """Sha256 over the dataset's files, the resolved sections, the weights and this library's own code.

        A training never goes on from a checkpoint of another one. The files rather than the content hash,
        which is the same for rows in another order.
        """
        sections = self.settings.plain()
        parts = [self.data.manifest["files"], sections, self._unpinned_weights(), self.code_sha256]
        return digest_of(parts)

    @cached_property
    def code_sha256(self) -> str:
        """Of all code that trains by these settings, comments left out."""
        return Reach(self.settings.plain(), project_code(Path())).digest(_TRAINING)

    def _unpinned_weights(self) -> str:
        """What the settings do not tell of the weights: nothing when they pin them, as `resolve` does."""
        backbone, weights = self.settings.backbone, self.weights
        if weights is None or backbone.weights_sha256 or _COMMIT.fullmatch(backbone.revision):
            return ""
        if isinstance(weights, str):
            return weights
        return sha256_file(weights) if weights.is_file() else digest_of(hash_files(weights, leave_out=()))

    def plain(self) -> dict[str, Any]:
        """As JSON, for a further process."""
        of_file = isinstance(self.weights, Path)
        return {
            "dataset": str(self.dataset),
            "sections": self.settings.plain(),
            "weights_file": str(self.weights) if of_file else "",
            "weights": None if of_file else self.weights,
        }

    @classmethod
    def parse(cls, plain: dict[str, Any]) -> Inputs:
        """From what `plain` gave."""
        weights = Path(plain["weights_file"]) if plain["weights_file"] else plain["weights"]
        return cls(Path(plain["dataset"]), Settings.parse(plain["sections"]), weights)
