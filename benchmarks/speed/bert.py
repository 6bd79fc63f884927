"""Full fine-tuning of BERT-base on short texts, beside `transformers.Trainer`.

No pretrained BERT-base needs to be had: its weights are random ones of a fixed seed, the same file for all.
Inside the clock: every step and, after each epoch, the evaluation of the same validation rows.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.speed._texts import MINILM, prepare_banking, write_settings
from benchmarks.speed.race import Contender, Job

TRAIN_ROWS, VALIDATION_ROWS = 800, 160
# Far fewer rows: a step of 32 rows takes many times as long. Samples a second do not depend on it.
SHIPPED_ROWS = 64


def prepare(work: Path) -> None:
    prepare_banking(work, TRAIN_ROWS, VALIDATION_ROWS)
    write_encoder(work / "bert-base")
    write_settings(
        work,
        str(work / "bert-base"),
        epochs=2,
        batch_size=32,
        learning_rate=5e-5,
        backbone_learning_rate=5e-5,
        schedule="linear",
        dropout=0.1,
        keep="last",
    )


def write_encoder(into: Path, **smaller: int) -> None:
    """A Hugging Face directory: the shape of BERT-base, random weights, MiniLM's (BERT's) tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    from retrainer.services import weights
    from retrainer.settings import Backbone

    source = weights.fetch(Backbone.parse({"weights": MINILM}, "backbone"))
    assert isinstance(source, Path)
    torch.manual_seed(0)
    BertModel(BertConfig(**smaller)).save_pretrained(into)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(source / name, into / name)


_TEXTS, _TRAINER = "benchmarks.speed._texts", "benchmarks.speed._trainer"
TUNED, SHIPPED = "transformers.Trainer, tuned", "transformers.Trainer, as shipped"

JOBS = [
    Job(
        name="bert-base",
        what="BERT-base, full fine-tune on short texts (Banking77)",
        prepare=prepare,
        contenders=[
            Contender("retrainer", f"{_TEXTS}:fit_alone"),
            Contender(TUNED, f"{_TRAINER}:tuned"),
            Contender(SHIPPED, f"{_TRAINER}:shipped", {"rows": SHIPPED_ROWS}),
        ],
        claims={TUNED: 1.1},
    )
]
