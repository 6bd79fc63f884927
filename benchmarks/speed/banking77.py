"""Seconds from the start of a process until its model answers enough of Banking77's test questions.

After each epoch everybody answers the same questions. The clock starts with the process: imports, reading,
tokenising and every evaluation are inside.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.accuracy import BANKING_TRAINING
from benchmarks.speed._texts import MINILM, prepare_banking, write_settings
from benchmarks.speed.race import Contender, Job

TARGET = 0.91
EPOCHS = 2
# A head alone, on sentences that were embedded once.
HEAD = {"strategy": "frozen", "epochs": 10, "batch_size": 64, "learning_rate": 1e-2}
SHIPPED_ROWS = 256


def prepare(work: Path) -> None:
    prepare_banking(work)
    write_settings(work, MINILM, **{**BANKING_TRAINING, "epochs": EPOCHS})


_TEXTS, _TRAINER = "benchmarks.speed._texts", "benchmarks.speed._trainer"
TUNED, SHIPPED = "transformers.Trainer, tuned", "transformers.Trainer, as shipped"
EMBEDDED = "sentence-transformers + logistic regression"

JOBS = [
    Job(
        name="banking77",
        what=f"Banking77 to an accuracy of {TARGET:.0%}, MiniLM, whole process",
        prepare=prepare,
        contenders=[
            Contender("retrainer, frozen", f"{_TEXTS}:ours", {"target": TARGET, **HEAD}),
            Contender("retrainer, full", f"{_TEXTS}:ours", {"target": TARGET}),
            Contender(TUNED, f"{_TRAINER}:tuned", {"target": TARGET, "whole": True}),
            Contender(
                SHIPPED, f"{_TRAINER}:shipped", {"target": TARGET, "whole": True, "rows": SHIPPED_ROWS}
            ),
            Contender(EMBEDDED, "benchmarks.speed._embeddings:logistic", {"target": TARGET}),
        ],
        claims={TUNED: 1.0, EMBEDDED: 1.0},
        measure="to_target",
        rounds=2,
    )
]
