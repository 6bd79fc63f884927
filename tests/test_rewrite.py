"""What a network is compiled as for a GPU: the same results and gradients as it has as it is written."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.fx import Graph, GraphModule
from torch.nn import functional

from retrainer.models._network import Body, Network
from retrainer.settings import Compute
from retrainer.tasks._heads import LinearHead
from retrainer.tasks._pixels import normalise, normalise_at_once
from retrainer.training import _compiled
from retrainer.training._first_convolution import first_convolution
from retrainer.training._fused_norm import norm_act
from retrainer.training._repeatable import allow_what_cannot_repeat
from retrainer.training._rewrite import norms, rewrite
from retrainer.training.compute import resolve_compute
from retrainer.training.learner import Learner
from retrainer.training.loader import Rows
from tests.conftest import ROOT
from tests.project import environment
from tests.small_networks import PLAIN, settings

pytestmark = [
    pytest.mark.usefixtures("torch_settings_restored"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
LAST = torch.channels_last


@pytest.fixture(autouse=True)
def _nothing_compiled() -> Iterator[None]:
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


class Residual(nn.Module):
    """The stem, a plain and a widened block of a residual network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.wider, self.bn3 = nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.conv3, self.bn4 = nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(functional.relu(self.bn1(self.conv1(x)), inplace=True))
        made = self.bn2(self.conv2(x))
        made += x
        x = functional.relu(made)
        return functional.relu(self.bn4(self.conv3(x)) + self.bn3(self.wider(x))).mean((2, 3))


class Texts(nn.Module):
    """Embeddings, a layer norm and attention, with a mask that hides nothing unless one is given."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.kinds = nn.Embedding(30, 16, padding_idx=0), nn.Embedding(2, 16)
        self.norm, self.out = nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        count, length = ids.shape
        x = self.words(ids) + self.kinds(torch.zeros(count, length, dtype=torch.long))
        x = self.norm(x).view(count, length, 2, 8).transpose(1, 2)
        if mask is None:
            mask = torch.ones(length, dtype=torch.bool)
        mask = mask[:, None, None, :] if mask.dim() == 2 else mask[None, None, None, :]
        x = functional.scaled_dot_product_attention(x, x, x, attn_mask=mask.expand(count, 1, length, length))
        return self.out(x.transpose(1, 2).flatten(2))


def rewritten(module: nn.Module, seen: list[GraphModule]) -> Any:
    """The module as its rewritten graph says, without the compiler behind it."""

    def backend(graph: GraphModule, _: list[Any]) -> Any:
        seen.append(rewrite(graph))
        return graph.forward

    return torch.compile(module, backend=backend, dynamic=False)


def targets(seen: list[GraphModule]) -> list[Any]:
    return [node.target for graph in seen for node in graph.graph.nodes]


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).detach().norm() / (one.detach().norm() + 1e-6))


def test_a_residual_network_computes_the_same() -> None:
    torch.manual_seed(0)
    plain = Residual().train().to(memory_format=LAST)
    quick, seen = copy.deepcopy(plain), []
    x = torch.randn(4, 3, 32, 32).contiguous(memory_format=LAST)
    weights = torch.randn(4, 16)
    wanted = plain(x)
    (wanted * weights).sum().backward()
    made = rewritten(quick, seen)(x)
    (made * weights).sum().backward()
    found = targets(seen)
    assert found.count(norms.batch_norm) == 3 and functional.batch_norm not in found
    assert functional.relu not in found and functional.max_pool2d not in found
    assert norms.batch_norm_pool in found and first_convolution in found
    assert distance(wanted, made) < 1e-5
    for (name, one), other in zip(plain.named_parameters(), quick.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert distance(one.grad, other.grad) < 1e-4, name
    for (name, one), other in zip(plain.named_buffers(), quick.buffers(), strict=True):
        assert distance(one.float(), other.float()) < 1e-5, name


def test_what_is_not_the_usual_shape_is_left_alone() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Conv2d(3, 6, 7, 2, 3), nn.BatchNorm2d(6)

        def forward(self, x: Tensor) -> Tensor:
            return functional.max_pool2d(self.norm(self.first(x)), 2)

    seen: list[GraphModule] = []
    module = Odd().train()
    rewritten(module, seen)(torch.randn(2, 3, 16, 16))
    found = targets(seen)
    assert functional.batch_norm in found and functional.max_pool2d in found
    assert norms.batch_norm not in found and first_convolution not in found


def test_texts_compute_the_same_and_a_full_mask_is_left_out() -> None:
    torch.manual_seed(0)
    plain = Texts()
    quick, seen = copy.deepcopy(plain), []
    ids = torch.randint(0, 30, (3, 6))
    weights = torch.randn(3, 6, 4)
    (plain(ids) * weights).sum().backward()
    run = rewritten(quick, seen)
    (run(ids) * weights).sum().backward()
    for (name, one), other in zip(plain.named_parameters(), quick.named_parameters(), strict=True):
        assert one is not None and other[1].grad is not None
        assert distance(plain.get_parameter(name).grad, other[1].grad) < 1e-5, name  # type: ignore[arg-type]
    assert not quick.words.weight.grad[0].any(), "padding has no gradient"  # type: ignore[index]
    assert masks(seen) == [None]
    given = torch.ones(3, 6, dtype=torch.bool)
    given[1, 3:] = False
    assert distance(plain(ids, given), run(ids, given)) < 1e-5
    assert masks(seen[1:]) != [None]


def masks(seen: list[GraphModule]) -> list[Any]:
    attention = functional.scaled_dot_product_attention
    return [n.kwargs["attn_mask"] for graph in seen for n in graph.graph.nodes if n.target is attention]


def test_layer_norms_answer_in_bfloat16_under_autocast_alone() -> None:
    for half in (False, True):
        torch.compiler.reset()
        seen: list[GraphModule] = []
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            rewritten(nn.LayerNorm(8), seen)(torch.randn(2, 8))
        assert (norms.layer_norm in targets(seen)) is half
    x, norm = torch.randn(4, 8), nn.LayerNorm(8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = norms.layer_norm(x, (8,), norm.weight, norm.bias, norm.eps)
    assert torch.equal(made, norm(x).bfloat16()), "computed in float32, rounded once"


def test_two_gradients_are_joined_on_their_way_into_a_norm() -> None:
    graph = Graph()
    image = torch.zeros(2, 8, 4, 4).to(memory_format=LAST)
    one, other, x, out, weight = (graph.placeholder(name) for name in ("one", "other", "x", "out", "weight"))
    total = graph.call_function(torch.ops.aten.add.Tensor, (one, other))
    for node in (one, other, x, out, total):
        node.meta["val"] = image
    rest = (weight, weight, weight, weight, True, 1e-5)
    norm = graph.call_function(norms._NORM_BACKWARD, (total, None, x, out, *rest))
    graph.output(norm)
    norms.JoinGradients()(graph)
    graph.lint()
    assert norm.args[:4] == (one, other, x, out) and total not in graph.nodes


def test_both_parts_of_a_gradient_count() -> None:
    torch.manual_seed(0)
    x, residual, one, other = (torch.randn(2, 8, 4, 4).to(memory_format=LAST) for _ in range(4))
    weight, bias = torch.rand(8) + 0.5, torch.randn(8)
    out, mean, variance = norm_act(x, weight, bias, residual, True, 1e-5)
    rest = (x, out, weight, bias, mean, variance, True, 1e-5)
    joined = torch.ops.retrainer.norm_act_backward(one, other, *rest)
    for made, wanted in zip(
        joined, torch.ops.retrainer.norm_act_backward(one + other, None, *rest), strict=True
    ):
        assert torch.allclose(made, wanted, atol=1e-5)


# --- the kernels, run by Triton's interpreter ------------------------------------------------------------

KERNELS = """
import torch
from torch.nn import functional
from retrainer.training import _norm_kernels as norm, _norm_pool, _norm_pool_kernels as pool
from retrainer.training import _first_convolution as plain, _first_convolution_kernels as convolution
torch.manual_seed(0)
last = dict(memory_format=torch.channels_last)
far = lambda made, wanted: float((made - wanted).detach().norm() / wanted.detach().norm())
norm._PROGRAMS = norm._BACK_PROGRAMS = 3
for added, relu in ((False, True), (True, True)):
    x = (2 * torch.randn(3, 72, 6, 13) + 3).contiguous(**last).requires_grad_()
    shortcut = torch.randn_like(x).requires_grad_()
    weight, bias = (torch.rand(72) + 0.5).requires_grad_(), torch.randn(72).requires_grad_()
    given = torch.randn_like(x)
    wanted = functional.batch_norm(x, None, None, weight, bias, True) + (shortcut if added else 0)
    wanted = wanted.relu() if relu else wanted
    wanted.backward(given)
    out, mean, variance = norm.forward(x, weight, bias, shortcut if added else None, relu, 1e-5)
    assert far(out, wanted) < 1e-5 and far(mean, x.mean((0, 2, 3))) < 1e-5
    half = given * 0.25
    parts = (given - half, half) if added else (given, None)
    kept = out if added else None
    made = norm.backward(*parts, x, kept, weight, bias, mean, variance, relu, 1e-5)
    wanted = [x.grad, weight.grad, bias.grad] + ([shortcut.grad] if added else [])
    assert all(far(one, other) < 1e-5 for one, other in zip(made, wanted)), (added, relu)
for height, width in ((7, 8), (6, 5)):
    x = (torch.randn(2, 72, height, width) + 1).contiguous(**last).requires_grad_()
    weight, bias = torch.randn(72).requires_grad_(), torch.randn(72).requires_grad_()
    wanted = functional.batch_norm(x, None, None, weight, bias, True).relu()
    wanted = functional.max_pool2d(wanted, 3, 2, 1)
    given = torch.randn_like(wanted)
    wanted.backward(given)
    made = pool.forward(x, weight, bias, 1e-5)
    assert far(made[0], wanted) < 1e-5
    same = _norm_pool.norm_pool(x.detach(), weight.detach(), bias.detach(), 1e-5)
    assert all(far(one.float(), other.float()) < 1e-5 for one, other in zip(made, same))
    for backward in (pool.backward, _norm_pool.norm_pool_backward):
        found = backward(given, x.detach(), *made[1:3], weight.detach(), bias.detach(), *made[3:], 1e-5)
        wanted = (x.grad, weight.grad, bias.grad)
        assert all(far(one, other) < 1e-5 for one, other in zip(found, wanted)), (height, backward)
x = torch.randn(2, 64, 4, 4).contiguous(**last)
x[0, 0] = torch.nan
for made in (norm.forward(x, torch.ones(64), torch.zeros(64), None, True, 1e-5),
             pool.forward(x, torch.ones(64), torch.zeros(64), 1e-5)):
    assert made[0][:, 0].isnan().all() and not made[0][:, 1:].isnan().any(), "an overflow ends the run"
convolution._PROGRAMS = 2
x = torch.randn(2, 16, 9, 8).contiguous(**last)  # the interpreter has no product of bfloat16
given = torch.randn(2, 64, 6, 5).contiguous(**last)
wanted = torch.nn.grad.conv2d_weight(x, (64, 16, 4, 4), given)
assert convolution.fits(given.bfloat16()) and not convolution.fits(given)
assert far(convolution.weight_gradient(given, x), wanted) < 1e-5
"""


@pytest.mark.slow
def test_the_kernels_compute_what_pytorch_does() -> None:
    pytest.importorskip("triton")
    interpreted = environment() | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KERNELS], cwd=ROOT, env=interpreted, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# --- whether it is compiled ------------------------------------------------------------------------------


def linear() -> Network:
    body = nn.Linear(8, 4)
    described = Body(body, lambda module, batch: module(batch["x"]), 4, {}, {"kind": "pixels"})
    return Network(described, LinearHead(4, 2, 0.0))


def test_only_work_enough_is_compiled_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    compute = PLAIN.model_copy(update={"compile": "auto"})
    rows = Rows(lambda at, _: {"x": torch.ones(len(at), 8)}, torch.zeros(100), None, 32)
    network, plan = linear(), settings(epochs=5)
    task: Any = None
    learner = Learner(network, task, plan, compute)
    assert _compiled.compiled(learner, rows) is network
    flops = 3 * 2 * (8 * 4 + 4 * 2) * 100 * 5
    assert _compiled._work(learner, rows) == flops and network.training
    monkeypatch.setattr(_compiled, "_WORTH_FLOPS", flops)
    assert _compiled.compiled(learner, rows) is not network
    kept = plan.model_copy(update={"checkpoint_activations": True})
    assert _compiled.compiled(replace(learner, training=kept), rows) is network


def test_kernels_alone_compute_what_the_network_does() -> None:
    torch.manual_seed(0)
    module = Residual().train().to(memory_format=LAST)
    described = Body(module, lambda body, batch: body(batch["pixels"]), 16, {}, {"kind": "pixels"})
    network = Network(described, LinearHead(16, 4, 0.0))
    batch = {"pixels": torch.randn(4, 3, 32, 32).contiguous(memory_format=LAST)}
    rows = Rows(lambda *_: batch, torch.zeros(8), None, 4 * 3 * 32 * 32)
    task: Any = None
    compute = PLAIN.model_copy(update={"compile": "kernels"})
    forward = _compiled.compiled(Learner(network, task, settings(batch_size=4), compute), rows)
    made = forward(batch)
    assert type(made.grad_fn).__name__ != "CompiledFunctionBackward", "nothing is compiled"
    assert distance(network(batch), made) < 1e-5
    assert torch.equal(made, forward(batch))
    assert counters["stats"]["unique_graphs"] == 1


def test_pixels_are_normalised_at_once_as_in_two_operations() -> None:
    pixels = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8).contiguous(memory_format=LAST)
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1) for values in ((124.0, 116.0, 104.0), (58.0, 57.0, 57.0))
    )
    made = normalise_at_once(pixels, mean, std)
    assert made.dtype == torch.float32 and made.is_contiguous(memory_format=LAST)
    assert torch.allclose(made, normalise(pixels, mean, std), atol=1e-6)


def test_kernels_are_only_for_a_gpu() -> None:
    wanted = Compute.parse({"device": "cpu", "compile": "kernels"}, "compute")
    assert resolve_compute(wanted).compile is False


@pytest.mark.usefixtures("printed_messages")
def test_what_cannot_repeat_itself_is_said_and_allowed(capfd: pytest.CaptureFixture[str]) -> None:
    def features(module: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        made = module(batch["x"])
        return made.clone().put_(torch.tensor([0]), made.flatten()[:1])  # PyTorch has no such form of put_

    network = linear()
    batch = {"x": torch.ones(2, 8)}
    torch.set_deterministic_debug_mode("error")
    before = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    assert allow_what_cannot_repeat(network, batch, Tensor.square, PLAIN) is None
    network.description.features = features
    assert allow_what_cannot_repeat(network, batch, Tensor.square, PLAIN) == "put_"
    assert torch.get_deterministic_debug_mode() == 1
    assert "uses put_, which does not repeat itself" in capfd.readouterr().err
    assert all(torch.equal(t, before[0][name]) for name, t in network.state_dict().items())
    assert torch.equal(before[1], torch.get_rng_state())
    assert all(p.grad is None for p in network.parameters())
