"""Packed texts (`training.packing`) train what padded ones train."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from retrainer.errors import UserError
from retrainer.formats.model_files import HISTORY, WEIGHTS
from retrainer.models import transformers
from retrainer.models._network import Body
from retrainer.settings import Backbone, Compute, Privacy, Task, Training
from retrainer.tasks import text_classification
from retrainer.training import _packed
from retrainer.training._applies import require_applicable
from retrainer.training._compiled import compiled
from retrainer.training._packed import Packing, packed, tell_saving
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.learner import Learner, Splits
from retrainer.training.strategies import placed_rows
from retrainer.training.train import Session, train_model
from tests.encoders import save_encoder, tokenizer_json, without_dropout
from tests.small_networks import PLAIN, image_task, network, reader, sentences, settings, squares

pytestmark = pytest.mark.usefixtures("torch_settings_restored")

LENGTHS = torch.tensor([12, 3, 7, 12, 5])
SMALL = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL |= {"intermediate_size": 32, "max_position_embeddings": 64, "pad_token_id": 0}
DECODER = SMALL | {"num_key_value_heads": 2, "head_dim": 4}


def texts(pad: int = 0) -> dict[str, torch.Tensor]:
    draws = torch.Generator().manual_seed(1)
    mask = torch.arange(12) < LENGTHS[:, None]
    ids = torch.randint(4, 40, mask.shape, generator=draws).where(mask, pad)
    return {"input_ids": ids, "attention_mask": mask.long()}


def built(folder: Path) -> Body:
    wanted = {"kind": "tokens", "max_length": 16}
    return transformers.build(transformers.Options(), wanted, folder, 0, False)


def encoder(kind: str, folder: Path) -> Body:
    return built(save_encoder(folder, kind))


def decoder(kind: str, folder: Path, **changes: Any) -> Body:
    """A language model as an encoder, from random weights."""
    from transformers import AutoConfig, AutoModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModel.from_config(AutoConfig.for_model(kind, **DECODER | changes)).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json())
    return built(folder)


def gradients(body: Body, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    body.module.zero_grad()
    features = body.features(body.module.eval(), batch)
    features.float().square().sum().backward()
    found = {n: p.grad.clone() for n, p in body.module.named_parameters() if p.grad is not None}
    return features.detach(), found


def require_equal(body: Body, pad: int = 0) -> None:
    batch = texts(pad)
    features, alone = gradients(body, batch)
    with packed(body, batch, LENGTHS):
        again, together = gradients(body, batch | {"lengths": LENGTHS})
        assert torch.equal(gradients(body, batch)[0], features), "without lengths it pads as ever"
    torch.testing.assert_close(again, features, rtol=1e-4, atol=1e-5)
    assert alone.keys() == together.keys()
    for name, gradient in alone.items():
        torch.testing.assert_close(together[name], gradient, rtol=1e-3, atol=1e-5, msg=name)
    assert torch.equal(gradients(body, batch)[0], features), "and afterwards too"


def test_a_packed_text_has_the_features_and_gradients_of_a_padded_one(tmp_path: Path) -> None:
    require_equal(encoder("bert", tmp_path))


def test_so_it_has_in_a_language_model_that_shares_keys(tmp_path: Path) -> None:
    require_equal(decoder("llama", tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "pad"), [("roberta", 1), ("distilbert", 0), ("electra", 0)])
def test_so_it_has_in_other_encoders(kind: str, pad: int, tmp_path: Path) -> None:
    require_equal(encoder(kind, tmp_path), pad)


def test_a_window_of_attention_is_refused(tmp_path: Path) -> None:
    body = decoder("mistral", tmp_path, sliding_window=4)
    wanted = r"training\.packing: not with this backbone: its attention sees a window, .*; leave it out"
    with pytest.raises(UserError, match=wanted), packed(body, texts(), LENGTHS):
        pass
    assert body.module.config._attn_implementation == "sdpa"


def test_tokens_go_into_a_row_and_back() -> None:
    packing = Packing.of(LENGTHS, 12, torch.device("cpu"))
    padded = torch.arange(60.0).reshape(5, 12)
    row = packing.pack(padded)
    assert row.shape == (39,) and packing.ends.tolist() == [0, 12, 15, 22, 34, 39]
    assert row[12:15].tolist() == [12.0, 13.0, 14.0] and packing.longest == 12
    assert torch.equal(packing.pad(row), padded.where(packing.mask, 0.0))


# --- trainings ---------------------------------------------------------------------------------------------

PLANS: dict[str, dict[str, Any]] = {
    "full": {"strategy": "full"},
    "all at once": {
        "strategy": "full",
        "accumulate": 3,
        "checkpoint_activations": True,
        "balance": "sampling",
    },
    "lora": {"strategy": "lora", "lora_rank": 2},
    "head-then-full": {"strategy": "head-then-full"},
}


@pytest.mark.parametrize(
    "name", ["full", *(pytest.param(n, marks=pytest.mark.slow) for n in list(PLANS)[1:])]
)
def test_the_loss_is_the_padded_one(
    name: str, reviews: Path, bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights, made = without_dropout(bert, tmp_path / "still"), []
    caplog.set_level(logging.INFO, "retrainer.train")
    for packing in (False, True):
        plan = settings(**PLANS[name] | {"packing": packing})
        out = tmp_path / str(packing)
        sections = Settings(Task(max_length=16), Backbone(), plan, PLAIN)
        train_model(Inputs(reviews, sections, weights), out, Session())
        made.append((load_file(out / WEIGHTS), json.loads((out / HISTORY).read_text())))
    (padded, before), (together, after) = made
    for one, other in zip(before, after, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)
    for key, tensor in padded.items():
        torch.testing.assert_close(together[key], tensor, rtol=0, atol=2e-4)
    assert "training.packing: an epoch has" in caplog.text and "fewer)" in caplog.text


def test_what_it_saves_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "retrainer.train")
    tell_saving([np.array([0, 1]), np.array([2])], np.array([10, 2, 5]))
    assert caplog.messages == ["training.packing: an epoch has 17 tokens, with padding 25 (32.0% fewer)"]


# --- what cannot work together ----------------------------------------------------------------------------


def text_learner(compute: Compute = PLAIN, **changes: Any) -> Learner:
    task = text_classification.make(Task(), ("a", "b"))
    return Learner(reader(), task, settings(strategy="full", packing=True, **changes), compute)


def test_images_are_not_packed() -> None:
    learner = Learner(network(), image_task(), settings(packing=True), PLAIN)
    with pytest.raises(UserError, match=r"training\.packing: .*this backbone reads pixels; leave it out"):
        require_applicable(learner, Splits(squares(8)))


def test_private_texts_are_not_packed() -> None:
    learner = text_learner(privacy=Privacy.parse({"epsilon": 3.0}, "training.privacy"))
    with pytest.raises(UserError, match=r"training\.packing: training\.privacy needs the gradient of every"):
        require_applicable(learner, Splits(sentences(64)))


def test_packed_texts_are_not_compiled() -> None:
    learner = text_learner(PLAIN.model_copy(update={"compile": True}))
    rows = placed_rows(learner.task, sentences(8), learner.network, torch.device("cpu"))
    with pytest.raises(UserError, match=r"training\.packing: .*\(compute\.compile\); leave one of them out"):
        compiled(learner, rows)


def test_an_encoder_of_another_make_is_refused() -> None:
    with (
        pytest.raises(UserError, match=r"training\.packing: not with this backbone: its attention cannot be"),
        packed(reader().description, texts(), LENGTHS),
    ):
        pass


def test_a_head_on_frozen_features_has_nothing_to_pack() -> None:
    with pytest.raises(UserError, match=r"setting training\.packing is for the strategy"):
        Training.parse({"strategy": "frozen", "packing": True}, "training")


def test_the_kernel_for_rows_takes_what_it_is_given_and_has_a_gradient() -> None:
    """Without a GPU as far as PyTorch can say without numbers."""
    meta = torch.device("meta")
    ends = torch.empty(4, dtype=torch.int32, device=meta)
    packing = Packing(torch.empty(24, device=meta), ends, torch.empty(3, 12, device=meta), 12)
    row = [torch.empty(24, 2, 64, dtype=torch.bfloat16, device=meta, requires_grad=True) for _ in range(3)]
    made = _packed._attend_to_row(packing, row, 0.1, True, 0.125)
    gradients = torch.autograd.grad(made.sum(), row)
    assert made.shape == row[0].shape and all(g.shape == made.shape for g in gradients)


def test_that_kernel_is_for_a_gpu() -> None:
    assert not _packed._reads_rows(torch.zeros(1, 2, 4, 64, dtype=torch.bfloat16))
