"""The engine as a user gets it: from the dataset directory to the model directory."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.speed._rows import Sections, count, initial
from benchmarks.speed.race import Figures, begin, since_start


def train(work: Path, sections: Sections, seed: int, target: float | None = None) -> Figures:
    """Everything counts: reading, decoding, training, validation, calibration, writing the model.

    With a `target` the run goes on to its end, and the moment of the first epoch that reached it is told.
    """
    # Third-party imports are not the engine's work; `to_target` has them in.
    import torchvision  # noqa: F401

    from retrainer.training.compute import resolve_compute
    from retrainer.training.inputs import Inputs, Settings
    from retrainer.training.train import Session, train_model

    told = sections | {"training": sections["training"] | {"seed": seed}}
    settings = Settings.parse(told)
    training = settings.training
    scratch = training.strategy == "scratch"
    reached: list[float] = []

    def on_epoch(number: int, figures: dict[str, float]) -> None:  # noqa: ARG001
        if target is not None and figures["validation_accuracy"] >= target:
            reached.append(since_start())

    began = begin()
    with TemporaryDirectory() as into:
        settled = settings._replace(compute=resolve_compute(settings.compute))
        inputs = Inputs(work / "dataset", settled, None if scratch else initial(work, seed))
        made = train_model(inputs, Path(into) / "model", Session(on_epoch))
    figures = Figures(
        samples=count(work, "train") * training.epochs,
        seconds=time.perf_counter() - began,
        accuracy=made["validation_accuracy"],
    )
    if target is not None:
        figures["to_target"] = reached[0] if reached else None
    return figures
