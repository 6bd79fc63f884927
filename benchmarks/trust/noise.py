"""Wrong labels planted into Banking77, CIFAR-10 and FSDD: which are listed, and how many are estimated.

    python -m benchmarks.trust.noise [banking77] [cifar10] [fsdd] [few-texts] [few-sounds]

Of each dataset's training rows 10,000 (FSDD has 3,000 rows); 5%, 10% and 20% of the labels are made another
one at random, beside those that are wrong already. `few-texts` (15 intents of Banking77) and
`few-sounds` (FSDD): how often wrong labels are named where there are few rows, and where none is wrong.
Results: benchmarks/results/trust_noise.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks._runs import ROOT, machine
from benchmarks.trust._real_rows import Row, banking77, cifar10, fsdd
from benchmarks.trust.careless.rows import INTENTS
from retrainer.data.label_noise import Noise, estimated, noise_rate
from retrainer.data.out_of_sample import LeaveOneOut, probabilities
from retrainer.data.task_columns import task_columns
from retrainer.data.vectors.rows import row_vectors
from retrainer.data.vectors.sounds import sound_vectors
from retrainer.data.vectors.texts import text_vectors
from retrainer.formats.dataset import IMAGE
from retrainer.label_errors import suspected
from retrainer.settings import Checks, Task

RESULTS = ROOT / "benchmarks" / "results" / "trust_noise.json"
RATES, SEEDS = (0.0, 0.05, 0.1, 0.2), (0, 1, 2)
_ROWS = 10_000
_DRAWS = 20


def measured(rows: list[Row], column: str, kind: pa.DataType, task: str) -> dict[str, Any]:
    labels, given = np.unique([row["labels"][0] for row in rows], return_inverse=True)
    table = pa.table({column: pa.array([row[column] for row in rows], kind), "labels": [["x"]] * len(rows)})
    began = time.perf_counter()
    columns = task_columns(Task.parse({"kind": task}, "task"), [column, "labels"])
    vectors = row_vectors(table, columns)
    assert vectors is not None
    left_out = LeaveOneOut(vectors)
    seconds = round(time.perf_counter() - began, 1)
    lines = [_line(left_out, given, len(labels), rate, seed) for rate in RATES for seed in SEEDS]
    return {"rows": len(rows), "seconds_of_vectors": seconds, "lines": lines}


def _line(left_out: LeaveOneOut, given: np.ndarray, classes: int, rate: float, seed: int) -> dict[str, Any]:
    from cleanlab.count import num_label_issues  # type: ignore[import-untyped]

    draw = np.random.default_rng(seed)
    wrong = draw.random(len(given)) < rate
    noisy = np.where(wrong, (given + draw.integers(1, classes, len(given))) % classes, given)
    told = probabilities(left_out.scores(noisy, classes), noisy)
    estimate, error = noise_rate(told, noisy)
    doubted = suspected(told, noisy)
    found = doubted[: round(estimate * len(noisy))]
    line = {
        "planted": rate,
        "seed": seed,
        "accuracy": round(float((told.argmax(axis=1) == noisy).mean()), 4),
        "estimate": round(estimate, 4),
        "standard_error": round(error, 4),
        "cleanlab_estimate": round(int(num_label_issues(noisy, told)) / len(noisy), 4),
        "listed": len(found),
        "precision": round(float(wrong[found].mean()), 4) if len(found) else None,
        "precision_of_all_suspected": round(float(wrong[doubted].mean()), 4),
        "precision_of_first_100": round(float(wrong[doubted[:100]].mean()), 4),
        "recall": round(float(wrong[found].sum() / wrong.sum()), 4) if wrong.any() else None,
    }
    print(line, flush=True)
    return line


def of_few(rows: Sequence[Row], vectors: Callable[[list[Row]], np.ndarray], sizes: Sequence[int]) -> Any:
    """Of 20 draws of each size how often the check speaks at its default level."""
    share = Checks.parse({}, "checks").label_noise_share
    found = []
    for size, rate in itertools.product(sizes, (0.0, 0.01, 0.05, 0.1, 0.2)):
        draws = [_drawn(rows, vectors, size, rate, seed) for seed in range(_DRAWS)]
        named = sum(noise.exceeds(share, 0) for noise in draws)
        found.append({"rows": size, "planted": rate, "draws": _DRAWS, "named": named})
        print(found[-1], flush=True)
    return {"lines": found}


def _drawn(
    rows: Sequence[Row], vectors: Callable[[list[Row]], np.ndarray], size: int, rate: float, seed: int
) -> Noise:
    draw = np.random.default_rng(seed)
    mine = [rows[int(place)] for place in draw.permutation(len(rows))[:size]]
    names, given = np.unique([row["labels"][0] for row in mine], return_inverse=True)
    wrong = draw.random(size) < rate
    noisy = np.where(wrong, (given + draw.integers(1, len(names), size)) % len(names), given)
    return estimated(probabilities(LeaveOneOut(vectors(mine)).scores(noisy, len(names)), noisy), noisy)


def few_texts() -> Any:
    rows = [row for row in banking77() if row["labels"][0] in INTENTS.split()]
    return of_few(rows, lambda mine: text_vectors([row["text"] for row in mine]), (600, 1000, 1350))


def few_sounds() -> Any:
    rows = fsdd()
    sounds = pa.chunked_array([pa.array([row["audio"] for row in rows], IMAGE)])
    numbered = [{**row, "vector": vector} for row, vector in zip(rows, sound_vectors(sounds), strict=True)]
    of = lambda mine: np.stack([row["vector"] for row in mine])  # noqa: E731
    return of_few(numbered, of, (250, 400, 540, 765, 1500, 3000))


def main() -> None:
    work: dict[str, Callable[[], Any]] = {
        "banking77": lambda: measured(banking77(), "text", pa.string(), "text_classification"),
        "cifar10": lambda: measured(cifar10(_ROWS), "image", IMAGE, "image_classification"),
        "fsdd": lambda: measured(fsdd(), "audio", IMAGE, "audio_classification"),
        "few-texts": few_texts,
        "few-sounds": few_sounds,
    }
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    reader.add_argument("parts", nargs="*", help=", ".join(work))
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in reader.parse_args().parts or list(work):
        kept[name] = {"machine": machine(), **work[name]()}
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
