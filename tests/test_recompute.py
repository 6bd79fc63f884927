"""Gradient checkpointing (`training.checkpoint_activations`) by family: less is kept, nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from retrainer.models import encoder_decoder, seq2seq, timm, torchvision, transformers
from retrainer.models._network import Batch, Body
from retrainer.training._recompute import recomputed
from tests.encoders import save_encoder, tokenizer_json

PIXELS = {"kind": "pixels", "size": [32, 32], "channels": 3}
SIZES = {"vocabulary": 40, "width": 16, "heads": 2, "layers": 2, "feedforward": 32, "max_length": 16}
T5 = {
    "model_type": "t5",
    "vocab_size": 40,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 2,
}
LLAMA = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
LLAMA |= {"intermediate_size": 32, "max_position_embeddings": 32, "pad_token_id": 0}


def image_body(family: Any, name: str) -> tuple[Body, Batch]:
    draws = torch.Generator().manual_seed(1)
    body = family.build(family.Options(name=name), PIXELS, None, 0, True)
    return body, {"pixels": torch.randn(4, 3, 32, 32, generator=draws)}


def read(body: Body) -> tuple[Body, Batch]:
    ids = torch.randint(4, 40, (4, 12), generator=torch.Generator().manual_seed(1))
    return body, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def write(body: Body) -> tuple[Body, Batch]:
    body, batch = read(body)
    return body, batch | {"decoder_input_ids": batch["input_ids"].flip(0)}


def text_body(folder: Path) -> tuple[Body, Batch]:
    wanted = {"kind": "tokens", "max_length": 16}
    return read(transformers.build(transformers.Options(), wanted, folder, 0, False))


def language_model(folder: Path) -> tuple[Body, Batch]:
    from transformers import AutoConfig, AutoModel

    AutoModel.from_config(AutoConfig.for_model("llama", **LLAMA)).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json())
    return text_body(folder)


# The share of what is kept without it that remains, at most.
CASES: dict[str, tuple[Callable[[Path], tuple[Body, Batch]], float]] = {
    "bert": (lambda folder: text_body(save_encoder(folder, "bert")), 0.4),
    "llama": (language_model, 0.4),
    "encoder-decoder": (
        lambda _: write(encoder_decoder.restore({**SIZES, "pad": 0, "start": 1, "end": 2})),
        0.5,
    ),
    "t5": (lambda _: write(seq2seq.restore({"model": T5, "start": [0], "end": 1, "pad": 0})), 0.4),
    "vit": (lambda _: image_body(timm, "test_vit"), 0.3),
    "convnext": (lambda _: image_body(timm, "test_convnext"), 0.4),
    "residual": (lambda _: image_body(torchvision, "resnet18"), 0.7),
    "dense": (lambda _: image_body(torchvision, "densenet121"), 0.9),
}
QUICK = ("bert", "llama", "encoder-decoder", "vit")


def kept_bytes(body: Body, batch: Batch) -> tuple[int, dict[str, Tensor]]:
    """Of all that a training step's forward pass keeps but the weights; and the gradients."""
    held = {p.untyped_storage().data_ptr() for p in body.module.parameters()}
    found: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(0)
    body.module.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = body.features(body.module.train(), batch).float().square().sum()
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in body.module.named_parameters() if p.grad is not None}
    return sum(found.values()), gradients


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES]
)
def test_less_is_kept_and_the_gradients_are_the_same(name: str, tmp_path: Path) -> None:
    build, share = CASES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body, batch = build(tmp_path)
        for part in body.module.modules():  # BatchNorm's statistics must not differ between the two
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.momentum = 0.0
        whole, plain = kept_bytes(body, batch)
        with recomputed(body):
            part, again = kept_bytes(body, batch)
    assert part <= share * whole, f"{part} of {whole} bytes"
    assert plain.keys() == again.keys() and all(torch.equal(again[n], plain[n]) for n in plain)


def test_a_backbone_without_blocks_is_told(caplog: pytest.LogCaptureFixture) -> None:
    body = Body(
        nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)), lambda *_: torch.empty(0), 4, {}, {}
    )
    with recomputed(body):
        assert caplog.messages == [
            "training.checkpoint_activations saves nothing: this backbone has no blocks of layers"
        ]
