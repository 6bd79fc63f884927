"""Ludwig on texts: a text feature in, a category feature out, with the encoder that texts have by default, as
in its documentation of text classification.

Make an environment for it, `pip install ludwig` in it, and run there

    python benchmarks/trust/careless/peers/ludwig_model.py EXPORTS/texts RESULTS.json
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from common import main  # type: ignore[import-not-found]

torch.set_num_threads(1)


class Ludwig:
    name = "Ludwig"
    packages = ("ludwig", "torch")
    tunable = True

    def fit(self, month: Path, training: dict[str, Any], into: Path) -> Any:
        from ludwig.api import LudwigModel  # type: ignore[import-not-found]

        trainer: dict[str, Any] = {"epochs": training.get("epochs", 10)}
        if "rate" in training:
            trainer["learning_rate"] = 0.001 * training["rate"]  # 0.001 is its default
        config = {
            "input_features": [{"name": "text", "type": "text"}],
            "output_features": [{"name": "label", "type": "category"}],
            "trainer": trainer,
        }
        train, test = (pd.read_csv(month / f"{part}.csv") for part in ("train", "test"))
        model = LudwigModel(config, logging_level=logging.INFO)
        model.train(
            training_set=train,
            test_set=test,
            output_directory=str(into),
            skip_save_processed_input=True,
            random_seed=training.get("seed", 42),
        )
        return model

    def accuracy(self, model: Any, month: Path) -> float:
        statistics, _, _ = model.evaluate(pd.read_csv(month / "test.csv"), collect_overall_stats=True)
        return float(statistics["label"]["accuracy"])


if __name__ == "__main__":
    main(Ludwig())
