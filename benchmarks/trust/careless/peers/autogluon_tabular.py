"""AutoGluon's TabularPredictor on texts as a column: `fit` as in its quick start with a time limit, its
leaderboard, and `evaluate` of the old and the new predictor on this month's test file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from common import main


class AutoGluon:
    tunable = False

    def fit(self, month: Path, _: dict[str, Any], into: Path) -> Any:
        from autogluon.tabular import TabularPredictor

        train, test = (pd.read_csv(month / f"{part}.csv") for part in ("train", "test"))
        predictor = TabularPredictor(label="label", path=str(into)).fit(train, time_limit=15)
        print(predictor.leaderboard(test))
        return predictor

    def score(self, model: Any, month: Path) -> float:
        return float(model.evaluate(pd.read_csv(month / "test.csv"))["accuracy"])

    def promotes(self, candidate: float, champion: float) -> dict[str, bool]:
        return {"better": candidate > champion}


if __name__ == "__main__":
    main(AutoGluon())
