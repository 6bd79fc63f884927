"""What a prediction costs: the median time of one row on one core."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 30
_WARM_UP_ROWS = 3
_MOST_SECONDS = 2.0


def latency_ms(model: Path, test: pa.Table) -> float:
    """Milliseconds of one row from its raw input to its prediction: the median of up to 30 rows.

    One thread of this machine's CPU, rows spread over the test set, asked one by one, the first few not
    counted. It is a measurement, and comes out a little different every time.
    """
    import torch

    from retrainer.predict import Predictor

    predictor = Predictor.load(model)
    step = max(1, len(test) // _ROWS)
    rows = [test.slice(start, 1) for start in range(0, len(test), step)][:_ROWS]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for row in rows[:_WARM_UP_ROWS]:
            predictor.predict(row)
        times: list[float] = []
        for row in rows:
            began = time.perf_counter()
            predictor.predict(row)
            times.append(time.perf_counter() - began)
            if sum(times) > _MOST_SECONDS:
                break
    finally:
        torch.set_num_threads(threads)
    return round(1000 * median(times), 3)
