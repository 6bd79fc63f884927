"""What each strategy trains, what it leaves alone, and the tricks that must change nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from retrainer.errors import UserError
from retrainer.formats.model_files import WEIGHTS
from retrainer.formats.network import load_network
from retrainer.models import mlp, timm, torchvision
from retrainer.models._blocks import depths, repeated_blocks
from retrainer.models._network import Body, Network
from retrainer.settings import Backbone, Task, Training
from retrainer.tasks._heads import LinearHead
from retrainer.training._fold import folded
from retrainer.training._lora import targets
from retrainer.training.groups import network_groups
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.loop import own_randomness
from retrainer.training.train import Session, train_model
from tests.small_datasets import train_to
from tests.small_networks import (
    EVERY_DRAW,
    PLAIN,
    convolution,
    convolutional,
    deep,
    image_task,
    network,
    same,
    settings,
    settled,
    squares,
    statistics,
    trained,
    weights,
)

pytestmark = pytest.mark.usefixtures("torch_settings_restored")

PIXELS = {"kind": "pixels", "size": [32, 32], "channels": 3}
FREEZING = ("frozen", "last-n", "lora")


# --- blocks --------------------------------------------------------------------------------------------


def encoder() -> nn.Module:
    from transformers import AutoModel, BertConfig

    shape = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    return AutoModel.from_config(BertConfig(vocab_size=50, **shape))


def built(family: Any, **options: Any) -> nn.Module:
    module: nn.Module = family.build(family.Options(**options), PIXELS, None, 0, True).module
    return module


NETWORKS = {
    "mlp": (lambda: built(mlp, hidden=(8, 4)), 2, "0", "2", []),
    "resnet": (lambda: built(torchvision, name="resnet18"), 8, "layer1.0", "layer4.1", ["conv1.weight"]),
    "convnext": (lambda: built(timm, name="convnext_atto"), 12, "stages.0.blocks.0", "stages.3.blocks.1",
                 ["stem.0.weight"]),
    "vit": (lambda: built(timm, name="vit_tiny_patch16_224"), 12, "blocks.0", "blocks.11",
            ["cls_token", "pos_embed", "patch_embed.proj.weight"]),
    "bert": (encoder, 3, "encoder.layer.0", "encoder.layer.2", ["embeddings.word_embeddings.weight"]),
    "one-block": (convolution, 1, "0", "0", []),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_are_found_in_every_family(name: str) -> None:
    build, count, first, last, stem = NETWORKS[name]
    body = build()
    blocks = repeated_blocks(body)
    assert (len(blocks), blocks[0], blocks[-1]) == (count, first, last)
    depth = depths(body, blocks)
    assert depth.keys() == {parameter for parameter, _ in body.named_parameters()}
    assert [depth[name] for name in stem] == [0] * len(stem)
    for i, block in enumerate(blocks, 1):
        assert {d for parameter, d in depth.items() if parameter.startswith(f"{block}.")} == {i}
    assert max(depth.values()) == count


def test_a_downsampling_between_stages_belongs_to_the_block_before_it() -> None:
    body = built(timm, name="convnext_atto")
    assert depths(body, repeated_blocks(body))["stages.1.downsample.1.weight"] == 2


# --- what moves ----------------------------------------------------------------------------------------


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("strategy", FREEZING)
def test_statistics_of_what_is_frozen_never_move(strategy: str) -> None:
    model = deep()
    before = statistics(model)
    trained(model, settings(strategy=strategy, dropout=0.1), squares(64), squares(20, 1))
    frozen = {n for n in before if strategy != "last-n" or not n.startswith("2.3.")}
    assert frozen and not moved(before, statistics(model)) & frozen


def test_last_n_trains_the_end_of_the_body() -> None:
    model = deep()
    before = weights(model)
    trained(model, settings(strategy="last-n", last_blocks=2), squares(64), squares(20, 1))
    groups = {".".join(name.split(".")[:3]) for name in moved(before, weights(model))}
    assert groups == {"body.2.2", "body.2.3", "body.3.weight", "body.3.bias", "head.weight", "head.bias"}
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_more_blocks_than_there_are() -> None:
    with pytest.raises(UserError, match=r"training\.last_blocks: 5 of this backbone's 4 blocks; set fewer"):
        trained(deep(), settings(strategy="last-n", last_blocks=5), squares(32))


def test_all_blocks_may_train_below_a_frozen_stem() -> None:
    model = deep()
    before = weights(model)
    trained(model, settings(strategy="last-n", last_blocks=4), squares(64))
    assert {n for n in before if n.startswith("body.1.")}.isdisjoint(moved(before, weights(model)))


def test_head_then_full_begins_as_frozen_does() -> None:
    """The head's epochs equal those of `frozen` with the same number; then everything moves."""
    frozen, both = settled(), settled()
    before = weights(both)
    apart = trained(frozen, settings(strategy="frozen", epochs=2, keep="last"), squares(64), squares(20, 1))
    seen: list[dict[str, Tensor]] = []
    whole = trained(
        both,
        settings(strategy="head-then-full", epochs=4, head_epochs=2, keep="last"),
        squares(64),
        squares(20, 1),
        on_epoch=lambda *_: seen.append(weights(both)),
    )
    assert [entry | {"kept": False} for entry in apart] == whole[:2]
    assert same(seen[1], weights(frozen))
    body = {n: t for n, t in before.items() if n.startswith("body.")}
    assert not moved(body, seen[1]) and {n for n in body if "num_batches" not in n} <= moved(body, seen[3])


def test_each_phase_has_rates_of_its_own() -> None:
    plan = {"strategy": "head-then-full", "epochs": 5, "head_epochs": 2, "warmup": 0.0}
    history = trained(network(), settings(**plan, schedule="linear"), squares(32))
    rates = [entry["learning_rate"] for entry in history]
    assert rates[0] > rates[1] < rates[2] > rates[3] > rates[4]


def test_layer_decay_slows_what_lies_deeper() -> None:
    model = deep()
    training = settings(strategy="full", layer_decay=0.5, backbone_learning_rate=0.08, learning_rate=0.3)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    peaks = {names[id(p)]: g["peak"] for g in network_groups(model, training) for p in g["params"]}
    assert peaks.keys() == set(names.values())
    assert peaks["body.1.weight"] == 0.08 / 16 and peaks["head.weight"] == 0.3
    assert [peaks[f"body.2.{i}.inner.bias"] for i in range(4)] == [0.01, 0.02, 0.04, 0.08]
    assert peaks["body.3.weight"] == 0.08


# --- lora ----------------------------------------------------------------------------------------------


def test_lora_adds_matrices_of_low_rank_to_the_blocks_layers() -> None:
    model = deep()
    before = weights(model)
    history = trained(model, settings(strategy="lora", lora_rank=2, epochs=8), squares(256), squares(64, 1))
    after = weights(model)
    assert before.keys() == after.keys(), "an ordinary network again"
    layers = {f"body.2.{i}.inner.weight" for i in range(4)}
    assert moved(before, after) == layers | {"head.weight", "head.bias"}
    for name in layers:
        assert torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-4) == 2
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert {type(part) for part in model.body.modules()} == {type(part) for part in deep().body.modules()}


def test_lora_merged_answers_as_it_did_in_training() -> None:
    model, told = deep(), {}
    rows = squares(64, 1)
    trained(
        model, settings(strategy="lora", keep="last"), squares(64), rows, on_epoch=lambda _, f: told.update(f)
    )
    with torch.no_grad():
        losses = nn.functional.cross_entropy(
            model(image_task().batch(rows[0], np.arange(64), None)), torch.from_numpy(rows[1])
        )
    assert float(losses) == pytest.approx(told["validation_loss"], rel=1e-5)


def test_lora_targets_attention_and_mlp() -> None:
    body = Body(encoder(), lambda *_: torch.empty(0), 16, {}, {})
    inner = {name.removeprefix("encoder.layer.1.") for name in targets(body) if ".1." in name}
    assert inner == {
        "attention.self.query", "attention.self.key", "attention.self.value",
        "attention.output.dense", "intermediate.dense", "output.dense",
    }  # fmt: skip
    resnet = Body(built(torchvision, name="resnet18"), lambda *_: torch.empty(0), 512, {}, {})
    assert "layer1.0.conv1" in targets(resnet) and "conv1" not in targets(resnet)


def test_lora_on_convolutions() -> None:
    model = convolutional()
    before = weights(model)
    trained(model, settings(strategy="lora"), squares(64))
    assert moved(before, weights(model)) == {"body.0.weight", "head.weight", "head.bias"}


def test_without_peft_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        UserError, match=r"lora needs peft, which is not installed; pip install 'retrainer\[lora"
    ):
        trained(deep(), settings(strategy="lora"), squares(32))


@pytest.mark.parametrize("strategy", ["lora", "last-n", "head-then-full"])
def test_the_written_model_is_an_ordinary_one(strategy: str, squares_dataset: Path, tmp_path: Path) -> None:
    backbone = Backbone(family="mlp", hidden=[12, 6])
    train_to(tmp_path / "first", squares_dataset, settings(), backbone)
    train_to(
        tmp_path / "second",
        squares_dataset,
        settings(strategy=strategy),
        backbone,
        weights=tmp_path / "first",
    )
    body = [load_network(tmp_path / name).body.state_dict() for name in ("first", "second")]
    assert body[0].keys() == body[1].keys() and not same(body[0], body[1])


ENCODER_PLANS: dict[str, dict[str, Any]] = {
    "lora": {"strategy": "lora", "lora_rank": 2},
    "lora-recomputed": {"strategy": "lora", "lora_rank": 2, "checkpoint_activations": True},
    "last-n": {"strategy": "last-n"},
    "decayed": {"strategy": "full", "layer_decay": 0.5},
    "decayed-recomputed": {"strategy": "full", "layer_decay": 0.5, "checkpoint_activations": True},
    "head-then-full": {"strategy": "head-then-full"},
}


def test_strategies_on_an_encoder(reviews: Path, bert: Path, tmp_path: Path) -> None:
    """A real one of transformers: what moves, and that recomputing changes nothing."""
    start = load_file(bert / "model.safetensors")
    bodies = {}
    for name, plan in ENCODER_PLANS.items():
        out, told = tmp_path / name, []
        sections = Settings(Task(max_length=16), Backbone(), settings(**{"batch_size": 32, **plan}), PLAIN)
        session = Session(lambda _, f, told=told: told.append(f))
        train_model(Inputs(reviews, sections, bert), out, session)
        assert told[-1]["train_loss"] < told[0]["train_loss"]
        body = {
            n.removeprefix("body."): t for n, t in load_file(out / WEIGHTS).items() if n.startswith("body.")
        }
        bodies[name] = body
        changed = {n for n, t in body.items() if n in start and not torch.equal(t, start[n])}
        if name.startswith("lora"):
            assert changed and all(
                n.endswith("weight") and ".layer." in n and "Norm" not in n for n in changed
            )
        if name == "last-n":
            assert changed and {n.split(".layer.")[1][0] for n in changed} == {"1"}
        if name.startswith("decayed") or name == "head-then-full":
            assert "embeddings.word_embeddings.weight" in changed
    for name in ("lora", "decayed"):
        assert same(bodies[name], bodies[f"{name}-recomputed"]), name


# --- cached features -----------------------------------------------------------------------------------


def test_views_are_embedded_once_and_drawn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many embeddings as views, whatever the epochs; more views, other weights."""
    passes: list[int] = []
    features = Network.features
    monkeypatch.setattr(
        Network, "features", lambda self, b: passes.append(len(b["pixels"])) or features(self, b)
    )
    made = []
    for views in (1, 4, 4):
        passes.clear()
        model = network()
        training = settings(strategy="frozen", cached_views=views, fold_norms=False, epochs=9)
        trained(model, training, squares(64), squares(20, 1), task=image_task(**EVERY_DRAW))
        assert sum(passes) == 64 * views + 20
        made.append(weights(model.head))
    assert same(made[1], made[2]) and not same(made[0], made[1])


def test_views_of_nothing_are_refused() -> None:
    with pytest.raises(UserError, match=r"training\.cached_views: 3 views of a row would be the same"):
        trained(network(), settings(strategy="frozen", cached_views=3), squares(32))


def residual() -> Network:
    """A ResNet-18 whose statistics are not the initial ones."""
    body = torchvision.build(torchvision.Options(name="resnet18"), PIXELS, None, 0, True)
    with own_randomness(0, torch.device("cpu"), "statistics"):
        model = Network(body, LinearHead(body.width, 2)).train()
        for _ in range(3):
            model({"pixels": torch.randn(16, 3, 32, 32) * 2 + 1})
    return model.eval()


def test_folded_features_agree_and_the_body_is_as_before() -> None:
    model = residual()
    pixels = {"pixels": torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))}
    before = weights(model)
    with torch.no_grad():
        plain = model.features(pixels)
        with folded(model, pixels):
            norms = sum(isinstance(part, nn.BatchNorm2d) for part in model.modules())
            quick = model.features(pixels)
        again = model.features(pixels)
    assert norms == 0, "all twenty are folded"
    assert (quick - plain).norm() <= 1e-5 * plain.norm()
    assert torch.equal(again, plain) and same(before, weights(model))


class Read(nn.Module):
    """A convolution whose output is also read before its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)

    def forward(self, pixels: Tensor) -> Tensor:
        made = self.convolution(pixels)
        return (made + 3 * self.norm(made)).mean((2, 3))


def test_a_convolution_with_another_reader_is_not_folded() -> None:
    model = network(Read, 4)
    trained(model, settings(epochs=1), squares(64, seed=5))
    pixels = image_task().batch(squares(8)[0], np.arange(8), None)
    with torch.no_grad():
        plain = model.eval().features(pixels)
        with folded(model, pixels):
            assert torch.equal(model.features(pixels), plain)


def test_folding_changes_the_head_by_rounding_alone() -> None:
    models = [settled(), settled()]
    for model, fold in zip(models, (True, False), strict=True):
        trained(model, settings(strategy="frozen", fold_norms=fold, keep="last"), squares(64))
    for name, tensor in weights(models[0].head).items():
        torch.testing.assert_close(weights(models[1].head)[name], tensor, rtol=1e-4, atol=1e-5)


# --- settings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "strategy"),
    [({"layer_decay": 0.9}, "scratch"), ({"last_blocks": 2}, "full"), ({"lora_rank": 4}, "full"),
     ({"cached_views": 2}, "full"), ({"head_epochs": 2}, "frozen"), ({"fold_norms": False}, "lora")],
)  # fmt: skip
def test_a_key_of_another_strategy_is_named(key: dict[str, Any], strategy: str) -> None:
    with pytest.raises(
        UserError, match=rf"setting training\.{next(iter(key))} is for the strategy .*{strategy}"
    ):
        Training.parse({"strategy": strategy, **key}, "training")


def test_head_epochs_leave_some() -> None:
    with pytest.raises(UserError, match=r"training\.head_epochs: 3 of 3 epochs leave none"):
        Training.parse({"strategy": "head-then-full", "epochs": 3, "head_epochs": 3}, "training")
