"""Tiny encoders with random weights, in Hugging Face layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

TEXT = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT |= {"intermediate_size": 32, "max_position_embeddings": 32, "pad_token_id": 0}
VISION = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
VISION |= {"image_size": 32, "patch_size": 8}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "patch_size": 4}
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": TEXT,
    "roberta": TEXT | {"pad_token_id": 1, "type_vocab_size": 1},
    "distilbert": {"vocab_size": 40, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    | {"max_position_embeddings": 32, "pad_token_id": 0},
    "electra": TEXT | {"embedding_size": 8},
    "vit": VISION,
    "dinov2": VISION | {"num_channels": 3},
    "deit": VISION,
    "convnext": STAGES,
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
    "swin": {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2]}
    | {"window_size": 4},
}
READS_TEXT = ("bert", "roberta", "distilbert", "electra")


def tokenizer_json(words: int = 40) -> str:
    """Words w0, w1, …, with [CLS] and [SEP] around, as BERT has it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    names = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{n}" for n in range(words - 4))]
    made = Tokenizer(models.WordLevel({name: n for n, name in enumerate(names)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [("[CLS]", 1), ("[SEP]", 2)]
    pair = "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=pair, special_tokens=special
    )
    return made.to_str()


def save_encoder(directory: Path, kind: str, **changes: Any) -> Path:
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(kind, **(ENCODERS[kind] | changes))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(directory)
    if kind in READS_TEXT:
        (directory / "tokenizer.json").write_text(tokenizer_json())
    else:
        note = {
            "size": {"height": 32, "width": 32},
            "image_mean": [0.1, 0.2, 0.3],
            "image_std": [0.4, 0.5, 0.6],
        }
        (directory / "preprocessor_config.json").write_text(json.dumps(note))
    return directory


def without_dropout(encoder: Path, out: Path) -> Path:
    """A copy that drops nothing at random in training."""
    shutil.copytree(encoder, out)
    config = json.loads((out / "config.json").read_text())
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (out / "config.json").write_text(json.dumps(config | still))
    return out
