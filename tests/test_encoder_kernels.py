"""Attention, norms and GELU of text encoders as a GPU runs them: results, gradients, dropout."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.nn import functional

from retrainer.models import transformers
from retrainer.training import _dropout_bits
from retrainer.training._attention import MOST_TOKENS, attention
from retrainer.training._encoder import add_norm, gelu
from retrainer.training._rewrite import encoder, norms, rewrite
from tests.conftest import ROOT, first_quick
from tests.project import environment

pytestmark = [
    pytest.mark.usefixtures("torch_settings_restored"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@pytest.fixture(autouse=True)
def _nothing_compiled() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def far(made: Tensor, wanted: Tensor) -> float:
    return float((made.float() - wanted.float()).detach().norm() / (wanted.float().detach().norm() + 1e-6))


def gradients(made: Tensor, given: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(made, inputs, given)


def leaf(*shape: int) -> Tensor:
    return torch.randn(*shape).requires_grad_()


@pytest.mark.parametrize(("dropout", "masked"), [(0.0, False), (0.25, False), (0.25, True)])
def test_attention_and_its_gradients_are_those_of_the_formula(dropout: float, masked: bool) -> None:
    torch.manual_seed(0)
    rows, length, heads, width = 2, 20, 3, 16
    packed, bias, seeds = (
        leaf(rows, length, 3, heads, width),
        leaf(3, heads, width),
        torch.randint(2**62, (3,)),
    )
    query, key, value = (packed + bias).permute(2, 0, 3, 1, 4)
    mask = torch.arange(length) < torch.tensor([[length], [7]])
    hidden = torch.where(mask, 0.0, -torch.inf)[:, None, None] if masked else 0.0
    weight = (query @ key.transpose(2, 3) / 4 + hidden).softmax(-1)
    if dropout:
        keep = _dropout_bits.kept(seeds[1], rows * heads, length * MOST_TOKENS, dropout)
        keep = keep.view(rows, heads, length, MOST_TOKENS)[..., :length]
        weight = weight * keep / (1 - dropout)
    wanted = (weight @ value).transpose(1, 2)
    made = attention(packed, bias, mask if masked else None, seeds, 1, dropout, 1 / 4)
    given = torch.randn(rows, length, heads, width)
    assert far(made, wanted) < 1e-6
    for one, other in zip(
        gradients(made, given, packed, bias), gradients(wanted, given, packed, bias), strict=True
    ):
        assert far(one, other) < 1e-5


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_a_norm_of_a_shortcut_and_its_gradients_are_those_of_the_formula(dropout: float) -> None:
    torch.manual_seed(0)
    x, residual, given, seeds = (
        leaf(5, 7, 24),
        leaf(5, 7, 24),
        torch.randn(5, 7, 24),
        torch.randint(2**62, (3,)),
    )
    bias, weight, shift = leaf(24), leaf(24), leaf(24)
    keep = _dropout_bits.kept(seeds[2], 1, x.numel(), dropout).view(x.shape) / (1 - dropout)
    wanted = functional.layer_norm(residual + (x + bias) * keep, (24,), weight, shift, 1e-5)
    made = add_norm(x, bias, residual, weight, shift, seeds, 2, dropout, 1e-5)
    assert far(made, wanted) < 1e-6
    inputs = (x, bias, residual, weight, shift)
    for one, other in zip(gradients(made, given, *inputs), gradients(wanted, given, *inputs), strict=True):
        assert far(one, other) < 1e-5


def test_gelu_of_a_product_and_its_bias() -> None:
    torch.manual_seed(0)
    x, bias, given = leaf(6, 40), leaf(40), torch.randn(6, 40)
    wanted, made = functional.gelu(x + bias), gelu(x, bias)
    assert far(made, wanted) < 1e-6
    for one, other in zip(gradients(made, given, x, bias), gradients(wanted, given, x, bias), strict=True):
        assert far(one, other) < 1e-5


def test_dropout_keeps_its_share_and_no_place_tells_of_another() -> None:
    seeds = torch.tensor([3, 2**61 + 5])
    one, other = (_dropout_bits.kept(seed, 64, 4096, 0.1).float() for seed in seeds)
    assert abs(float(one.mean()) - 0.9) < 0.003
    assert float(one.mean(1).std()) < 0.007 and float(one.mean(0).std()) < 0.05
    off = one - one.mean()
    pairs = {
        "seeds": off * (other - other.mean()),
        "streams": off[1:] * off[:-1],
        "places": off[:, 1:] * off[:, :-1],
    }
    pairs["streams far apart"] = off[32:] * off[:32]
    for name, product in pairs.items():
        assert abs(float(product.mean())) / 0.09 < 0.01, name
    assert torch.equal(one, _dropout_bits.kept(seeds[0], 64, 4096, 0.1).float())


# --- a text encoder ---------------------------------------------------------------------------------------


def bert(dropout: float, layers: int = 1) -> torch.nn.Module:
    sizes = {
        "hidden_size": 128,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 96,
    }
    drops = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    model = {"model_type": "bert", "vocab_size": 100, **sizes, **drops}
    torch.manual_seed(0)
    described = {"input": "tokens", "pooling": "cls", "pooler": False, "width": 128, "model": model}
    return transformers.restore(described).module.train()


def rewritten(module: torch.nn.Module, seen: list[GraphModule]) -> Any:
    def backend(graph: GraphModule, _: list[Any]) -> Any:
        seen.append(rewrite(graph))
        return graph.forward

    return torch.compile(module, backend=backend, dynamic=False)


def answers(run: Any, ids: Tensor, **more: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made: Tensor = run(input_ids=ids, **more).last_hidden_state
    return made


def count(seen: list[GraphModule], *functions: Any) -> list[int]:
    targets = [node.target for graph in seen for node in graph.graph.nodes]
    return [targets.count(function) for function in functions]


OURS = (encoder.attended, encoder.normed, encoder.activated, encoder.draw_seeds)
THEIRS = (functional.scaled_dot_product_attention, functional.gelu, functional.linear, functional.layer_norm)


def test_an_encoder_computes_the_same() -> None:
    plain = bert(0.0)
    quick, seen = copy.deepcopy(plain), []
    ids, weights = torch.randint(1, 100, (3, 72)), torch.randn(3, 72, 128)
    wanted, made = answers(plain, ids), answers(rewritten(quick, seen), ids)
    assert count(seen, *OURS) == [1, 2, 1, 1] and count(seen, *THEIRS) == [0, 0, 0, 0]
    assert count(seen, norms.layer_norm) == [1], "that of the embeddings"
    assert far(made, wanted) < 0.02
    (wanted * weights).sum().backward()
    (made * weights).sum().backward()
    for (name, one), other in zip(plain.named_parameters(), quick.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        if "key.bias" not in name:  # is 0 but for rounding
            assert far(other.grad, one.grad) < 0.05, name


def test_an_encoder_drops_as_often_and_repeats_itself() -> None:
    seen: list[GraphModule] = []
    quick = bert(0.3, layers=2)
    run, ids = rewritten(quick, seen), torch.randint(1, 100, (3, 72))
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        made.append(answers(run, ids))
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])
    assert count(seen, *OURS) == [2, 4, 2, 1]
    places = [
        n.args[-1] for g in seen for n in g.graph.nodes if n.target in (encoder.attended, encoder.normed)
    ]
    assert sorted(places) == list(range(6)), "a seed for each"


def test_a_mask_of_lengths_is_kept_and_any_other_is_left_to_pytorch() -> None:
    plain, seen = bert(0.0), []
    mask = torch.ones(3, 72, dtype=torch.bool)
    mask[1, 40:] = False
    ids = torch.randint(1, 100, (3, 72))
    run = rewritten(copy.deepcopy(plain), seen)
    made = answers(run, ids, attention_mask=mask)
    assert count(seen, *OURS[:2], THEIRS[0]) == [1, 2, 0]
    assert far(made[mask], answers(plain, ids, attention_mask=mask)[mask]) < 0.02
    earlier = torch.ones(72, 72, dtype=torch.bool).tril().expand(3, 1, 72, 72)
    made = answers(run, ids, attention_mask=earlier)
    assert count(seen[1:], *OURS[:2], THEIRS[0]) == [0, 2, 1]
    assert far(made, answers(plain, ids, attention_mask=earlier)) < 0.02


@pytest.mark.parametrize("length", first_quick([64, 136]))
def test_pytorch_attends_to_rows_of_other_lengths(length: int) -> None:
    plain, seen = bert(0.0), []
    ids = torch.randint(1, 100, (2, length))
    made = answers(rewritten(copy.deepcopy(plain), seen), ids)
    assert count(seen, *OURS[:2], THEIRS[0]) == [0, 2, 1]
    assert far(made, answers(plain, ids)) < 0.02


def test_in_float32_nothing_is_replaced() -> None:
    seen: list[GraphModule] = []
    rewritten(bert(0.0), seen)(input_ids=torch.randint(1, 100, (3, 72)))
    assert count(seen, *OURS) == [0, 0, 0, 0]


# --- the kernels, run by Triton's interpreter --------------------------------------------------------------

KERNELS = """
import torch
from retrainer.training import _attention, _attention_kernels as kernels
from retrainer.training import _encoder, _encoder_kernels as between
torch.manual_seed(0)
seeds = torch.randint(2**62, (3,))
def same(made, wanted):
    for one, other in zip(made, wanted, strict=True):
        assert float((one - other).norm() / (other.norm() + 1e-9)) < 1e-5
for rows, length, heads, width, dropout in ((2, 24, 2, 16, 0.1), (1, 70, 1, 32, 0.0), (1, 128, 1, 16, 0.5)):
    packed, bias = torch.randn(rows, length, 3, heads, width), torch.randn(3, heads, width) / 2
    mask = None if length == 70 else torch.arange(length) < torch.tensor([[length], [length - 5]])[:rows]
    given, rest = torch.randn(rows, length, heads, width), (mask, seeds, 1, dropout, width**-0.5)
    same([kernels.forward(packed, bias, *rest)], [_attention.attention(packed, bias, *rest)])
    wanted = _attention.attention_backward(given, packed, bias, *rest)
    same(kernels.backward(given, packed, bias, *rest), wanted)
for rows, columns, dropout in ((37, 48, 0.1), (20, 64, 0.0)):
    x, residual, one, two = (torch.randn(rows, columns) for _ in range(4))
    bias, weight, shift = torch.randn(3, columns).unbind()
    rest = (x, bias, residual, weight)
    wanted = _encoder.add_norm(*rest, shift, seeds, 2, dropout, 1e-5)
    same([between.add_norm(*rest, shift, seeds, 2, dropout, 1e-5)], [wanted])
    for more in (None, two):
        arguments = (one, more, *rest, seeds, 2, dropout, 1e-5)
        same(between.add_norm_backward(*arguments), _encoder.add_norm_backward(*arguments))
    same([between.gelu(x, bias)], [_encoder.gelu(x, bias)])
    same(between.gelu_backward(one, x, bias), _encoder.gelu_backward(one, x, bias))
"""


@pytest.mark.slow
def test_the_kernels_compute_the_formulas() -> None:
    pytest.importorskip("triton")
    interpreted = environment() | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KERNELS], cwd=ROOT, env=interpreted, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
