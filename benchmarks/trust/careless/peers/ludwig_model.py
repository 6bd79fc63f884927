"""Ludwig: its declarative training with the default encoder of texts, and `evaluate` of the old and the new
model on this month's test file.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from common import main

torch.set_num_threads(1)


class Ludwig:
    tunable = True

    def fit(self, month: Path, settings: dict[str, Any], into: Path) -> Any:
        from ludwig.api import LudwigModel

        given = settings.get("training", {})
        trainer: dict[str, Any] = {"epochs": given.get("epochs", 8) if "epochs" in given else 8}
        if "learning_rate" in given:
            trainer["learning_rate"] = 0.001 * (100 if given["learning_rate"] > 0.1 else 1e-3)
        config = {
            "input_features": [{"name": "text", "type": "text"}],
            "output_features": [{"name": "label", "type": "category"}],
            "trainer": trainer,
        }
        model = LudwigModel(config, logging_level=logging.INFO)
        train, test = (pd.read_csv(month / f"{part}.csv") for part in ("train", "test"))
        model.train(
            training_set=train, test_set=test, output_directory=str(into), skip_save_processed_input=True
        )
        return model

    def score(self, model: Any, month: Path) -> float:
        statistics, _, _ = model.evaluate(pd.read_csv(month / "test.csv"))
        return float(statistics["label"]["accuracy"])

    def promotes(self, candidate: float, champion: float) -> dict[str, bool]:
        return {"better": candidate > champion}


if __name__ == "__main__":
    main(Ludwig())
