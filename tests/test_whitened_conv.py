"""The network that whitens its input: what each part computes, and that it learns."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from retrainer.errors import UserError
from retrainer.models import whitened_conv
from retrainer.models._halved import halved
from retrainer.models._network import Network
from retrainer.models._whitened_conv import Norm, WhitenedConv, largest
from retrainer.tasks._pixels import Augmentation, Pixels
from retrainer.training.compute import has_c_compiler
from retrainer.training.learner import Learner, Splits
from retrainer.training.loop import begin_from_rows, fit
from tests.conftest import ROOT
from tests.project import environment
from tests.small_networks import PLAIN, image_task, settings

WANTED = {"kind": "pixels", "size": [16, 16], "channels": None}


def images(count: int, seed: int = 0) -> tuple[Pixels, np.ndarray]:
    """Smooth colour images [N, 3, 16, 16]; their class says in which half is more red."""
    draws = np.random.default_rng(seed)
    coarse = torch.from_numpy(draws.uniform(40, 160, (count, 3, 4, 4)))
    targets = draws.integers(0, 2, count)
    coarse[targets == 0, 0, :2] += 60
    coarse[targets == 1, 0, 2:] += 60
    pixels = functional.interpolate(coarse, scale_factor=4, mode="bilinear").round().to(torch.uint8)
    return Pixels(pixels, (0.47,) * 3, (0.25,) * 3), targets.astype(np.int64)


def built(**options: Any) -> Any:
    return whitened_conv.build(whitened_conv.Options.parse(options, "backbone"), WANTED, None, 0, True)


def seen(count: int = 64) -> Tensor:
    return images(count)[0].batch(np.arange(count), Augmentation(), None)["pixels"]


def test_the_filters_whiten_patches() -> None:
    module = WhitenedConv(3, [4, 4, 4], 2, 1)
    pixels = seen() + 0.05 * torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    module.whiten(pixels)
    axes = functional.conv2d(pixels, module.filters).transpose(0, 1).flatten(1)  # [24, …]
    assert torch.equal(axes[12:], -axes[:12])
    products = axes[:12] @ axes[:12].T / axes.shape[1]
    off = products - torch.diag(products.diagonal())
    assert off.abs().max() < 0.02
    # What varies by less than the floor is left small: noise is not made as large as the image.
    assert products.diagonal().max() < 1.001 and products[0, 0] > 0.99 and products.diagonal().min() > 0.5


def test_a_training_from_scratch_begins_with_its_rows_and_no_other_does() -> None:
    task, rows = image_task(size=16), images(50)
    for strategy, whitened in (("scratch", True), ("full", False)):
        network = made_network(task)
        plan = settings(strategy=strategy)
        begin_from_rows(Learner(network, task, plan, PLAIN), rows)
        filters = network.body.get_buffer("filters")
        expected = WhitenedConv(3, [4, 6, 8], 2, 1)
        expected.whiten(rows[0].batch(np.arange(50), Augmentation(), None)["pixels"])
        assert torch.equal(filters, expected.filters) == whitened
        assert bool(filters.any()) == whitened


def made_network(task: Any, **options: Any) -> Network:
    body = built(**{"widths": [4, 6, 8]} | options)
    torch.manual_seed(0)
    return Network(body, task.head(body, settings()))


def test_it_learns_and_its_filters_stay_as_they_began() -> None:
    task = image_task(size=16, flip=True, cutout=4)
    network = made_network(task, depth=3, views=2)
    plan = settings(
        strategy="scratch", epochs=6, batch_size=32, optimizer="sgd", momentum=0.85, learning_rate=0.5,
        clip_norm=0.0, label_smoothing=0.1, keep="last", ema_decay=0.9,
    )  # fmt: skip
    learner = Learner(network, task, plan, PLAIN)
    begin_from_rows(learner, images(256)[:2])
    before = network.body.get_buffer("filters").clone()
    history = fit(learner, Splits(images(256), images(100, 1)))
    assert history[-1]["validation_accuracy"] > 0.9
    torch.testing.assert_close(network.body.get_buffer("filters"), before)


def test_pooling_is_pytorchs_and_so_is_its_gradient() -> None:
    x = torch.randn(3, 5, 7, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    ours, theirs = halved(x), functional.max_pool2d(x, 2)
    assert torch.equal(ours, theirs) and ours.is_contiguous(memory_format=torch.channels_last)
    gradient = torch.randn_like(ours)
    made = [torch.autograd.grad(y, x, gradient, retain_graph=True)[0] for y in (ours, theirs)]
    assert torch.equal(*made)


KERNELS = """
import torch
from torch.nn import functional
from retrainer.models import _halved_kernels as kernels
torch.manual_seed(0)
for shape in ((2, 72, 7, 6), (1, 5, 4, 9)):
    x = torch.randn(shape).contiguous(memory_format=torch.channels_last).requires_grad_()
    wanted = functional.max_pool2d(x, 2)
    given = torch.randn_like(wanted)
    wanted.backward(given)
    out, which = kernels.forward(x.detach())
    assert torch.equal(out, wanted), shape
    assert torch.equal(kernels.backward(given, which, *shape[2:]), x.grad), shape
"""


@pytest.mark.slow
def test_its_kernels_compute_the_same() -> None:
    """Run by Triton's interpreter."""
    pytest.importorskip("triton")
    interpreted = environment() | {"TRITON_INTERPRET": "1"}
    words = [sys.executable, "-c", KERNELS]
    done = subprocess.run(words, cwd=ROOT, env=interpreted, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_shift_moves_64_times_as_fast_as_batch_norms_own() -> None:
    norm, usual = Norm(3), torch.nn.BatchNorm2d(3)
    x, weights = torch.randn(4, 3, 5, 5), torch.randn(4, 3, 5, 5)
    for module, parameter in ((norm, norm.shift), (usual, usual.bias)):
        (module(x) * weights).sum().backward()
        with torch.no_grad():
            parameter -= 0.01 * parameter.grad
    torch.testing.assert_close(norm(x) - norm.shift.new_zeros(1), usual(x) + 63 * usual.bias[:, None, None])
    torch.testing.assert_close(norm.eval()(x), (usual.eval()(x) + 63 * usual.bias[:, None, None]))


def test_the_last_pooling_is_amax_and_survives_values_that_are_computed_again_otherwise() -> None:
    x = torch.randn(4, 8, 3, 3, requires_grad=True)

    def again(saved: Tensor) -> Tensor:
        return saved * (1 + 1e-3 * torch.rand_like(saved)) if saved.is_floating_point() else saved

    with torch.autograd.graph.saved_tensors_hooks(again, lambda saved: saved):
        found = largest(functional.gelu(x))
    found.sum().backward()
    assert torch.equal(found, functional.gelu(x).amax((2, 3)))
    assert x.grad is not None and x.grad.isfinite().all() and (x.grad != 0).sum() == 4 * 8


@pytest.mark.slow
@pytest.mark.skipif(not has_c_compiler(), reason="compiling needs a C compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiled_its_gradients_are_those_of_the_plain_one() -> None:
    def pooled(x: Tensor, y: Tensor) -> Tensor:
        return largest(functional.gelu(x + y))

    compiled: Any = torch.compile(pooled, dynamic=False)
    gradients = []
    for function in (pooled, compiled):
        torch.manual_seed(0)
        x, y = (torch.randn(8, 16, 3, 3).bfloat16().requires_grad_() for _ in range(2))
        function(x, y).float().sum().backward()
        assert x.grad is not None
        gradients.append(x.grad)
    assert torch.equal(*gradients)


def test_views_are_averaged_where_nothing_is_trained() -> None:
    pixels = seen(8)
    modules = {views: built(widths=[4, 6, 8], views=views).module for views in (1, 2, 6)}
    for module in modules.values():
        module.whiten(pixels)
    train = [module.train()(pixels) for module in modules.values()]
    assert torch.equal(train[0], train[1]) and torch.equal(train[0], train[2])
    one, two, six = (module.eval() for module in modules.values())
    mirrored = (one(pixels) + one(pixels.flip(3))) / 2
    torch.testing.assert_close(two(pixels), mirrored)
    torch.testing.assert_close(two(pixels.flip(3)), two(pixels))
    padded = functional.pad(pixels, (1, 1, 1, 1), mode="replicate")
    corners = [two(padded[:, :, :-2, :-2]), two(padded[:, :, 2:, 2:])]
    torch.testing.assert_close(six(pixels), mirrored / 2 + corners[0] / 4 + corners[1] / 4)
    assert not torch.allclose(six(pixels), mirrored)


def test_what_does_not_fit_is_named() -> None:
    build = whitened_conv.build
    options = whitened_conv.Options()
    for size in (None, [8, 8]):
        with pytest.raises(UserError, match=r"^task\.size: whitened_conv takes images of one size, 9 pixels"):
            build(options, WANTED | {"size": size}, None, 0, True)
    with pytest.raises(UserError, match=r"^setting backbone\.views"):
        whitened_conv.Options.parse({"views": 3}, "backbone")
    with pytest.raises(UserError, match=r"^setting backbone\.widths"):
        whitened_conv.Options.parse({"widths": [8, 8]}, "backbone")
    with pytest.raises(UserError, match=r"^backbone\.weights: no imagenet weights are published"):
        build(options, WANTED, "imagenet", 0, False)


def test_a_square_of_each_image_is_blanked() -> None:
    rows = Pixels(torch.full((200, 3, 16, 16), 255, dtype=torch.uint8), (0.5,) * 3, (0.5,) * 3)
    drawn = rows.batch(np.arange(200), Augmentation(cutout=5), torch.Generator().manual_seed(0))["pixels"]
    blank = (drawn == 0).all(1)
    assert (blank.sum((1, 2)) == 25).all() and ((drawn == 1).all(1) | blank).all()
    down, right = (blank.any(axis).int().argmax(1) for axis in (2, 1))
    assert set(down.tolist()) == set(right.tolist()) == set(range(12))
    assert (blank.any(2).sum(1) == 5).all()
    assert not (rows.batch(np.arange(200), Augmentation(cutout=5), None)["pixels"] == 0).any()
    whole = rows.batch(np.arange(9), Augmentation(cutout=40), torch.Generator())["pixels"]
    assert not whole.any()
