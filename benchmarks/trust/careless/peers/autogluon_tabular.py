"""AutoGluon's TabularPredictor on texts as a column of a table, as in its quick start: `fit` with a time
limit, and the `leaderboard` on the test rows. (MultiModalPredictor downloads its encoder.)

Make an environment for it, `pip install "autogluon.tabular[lightgbm]"` in it, and run there

    python benchmarks/trust/careless/peers/autogluon_tabular.py EXPORTS/texts RESULTS.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from common import main  # type: ignore[import-not-found]


class AutoGluon:
    name = "AutoGluon"
    packages = ("autogluon.tabular", "lightgbm")
    tunable = False

    def fit(self, month: Path, _: dict[str, Any], into: Path) -> Any:
        from autogluon.tabular import TabularPredictor  # type: ignore[import-not-found]

        train, test = (pd.read_csv(month / f"{part}.csv") for part in ("train", "test"))
        predictor = TabularPredictor(label="label", path=str(into)).fit(train, time_limit=15)
        print(predictor.leaderboard(test))
        return predictor

    def accuracy(self, model: Any, month: Path) -> float:
        return float(model.evaluate(pd.read_csv(month / "test.csv"))["accuracy"])


if __name__ == "__main__":
    main(AutoGluon())
