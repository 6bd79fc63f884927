"""torch.compile of the training step, for a few whole shapes; all others run as they are written.

Which shapes those are follows from the settings and the data alone. Compiling whatever comes until a limit is
reached would make the numbers depend on the order in which shapes came, and a run that goes on after a kill
sees them in another.

Legend: B rows of a part, T padded length.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils.flop_counter import FlopCounterMode

from retrainer.errors import SettingError
from retrainer.messages import logger
from retrainer.settings import Training
from retrainer.training._distributed import Group
from retrainer.training.compute import autocast, has_c_compiler
from retrainer.training.learner import Learner
from retrainer.training.loader import Batch, Rows

_LOG = logger("train")

# At most so many lengths of texts, evenly spread, and the longest: each costs its own compilation.
_LENGTHS = 8
_GPU_MULTIPLE = 8
# Compiling takes about a minute and saves about a third of the time; this many operations take a large GPU
# five minutes as they are written, and a smaller one longer.
_WORTH_FLOPS = 3e16
# Forward, and twice as much backward.
_PASSES = 3
# Inputs of few shapes, which `_whole` can tell: others would be compiled anew for almost every batch.
_COMPILED_KINDS = ("pixels", "tokens")


def compiled(learner: Learner, rows: Rows) -> Callable[[Batch], Tensor]:
    """The network as `torch.compile` runs it, if the settings say so. Raises UserError where it cannot.

    With `compute.compile: auto` the settings, the data and the network alone decide: whether the run has work
    enough, in floating-point operations.
    """
    network, training, compute = learner.network, learner.training, learner.compute
    if not compute.compile or (compute.compile == "auto" and not _worth_compiling(learner, rows)):
        return network
    if compute.compile != "auto":
        _require_compilable(learner)
    torch.compiler.reset()  # what else this process has compiled would count
    torch._dynamo.config.recompile_limit = 2 * _LENGTHS
    backend: Any = _kernels if compute.compile == "kernels" else _Inductor(compute.device == "cuda", training)
    run: Callable[[Batch], Tensor] = torch.compile(network, dynamic=False, backend=backend)
    whole = _whole(rows, training, learner.group)
    return lambda batch: run(batch) if whole(batch) else network(batch)


def _worth_compiling(learner: Learner, rows: Rows) -> bool:
    if learner.network.description.preprocessing["kind"] not in _COMPILED_KINDS:
        return False
    training = learner.training
    if training.checkpoint_activations or training.packing or learner.network.description.opaque:
        return False
    return _work(learner, rows) >= _WORTH_FLOPS


def _require_compilable(learner: Learner) -> None:
    """Raises UserError where the settings ask for what cannot be compiled."""
    if (kind := learner.network.description.preprocessing["kind"]) not in _COMPILED_KINDS:
        raise SettingError(
            f"compute.compile: networks that read {kind} are not compiled, only those of"
            f" {' and '.join(_COMPILED_KINDS)}; leave it out"
        )
    if not has_c_compiler():
        raise SettingError(
            "compute.compile: torch.compile needs a C compiler, and there is none here (such as gcc);"
            " install one, or leave it out"
        )
    if learner.training.checkpoint_activations:
        raise SettingError(
            "training.checkpoint_activations: torch.compile (compute.compile) chooses itself what it keeps;"
            " leave one of them out"
        )
    if learner.training.packing:
        raise SettingError(
            "training.packing: almost every step has another number of tokens, and each would be compiled"
            " anew (compute.compile); leave one of them out"
        )


def _kernels(module: GraphModule, inputs: list[Any]) -> Any:  # noqa: ARG001
    """As it is written, but for the operations that are rewritten; no compiler behind it."""
    from retrainer.training._rewrite import rewrite

    return rewrite(module).forward


class _Inductor:
    """PyTorch's compiler; for a GPU it is given a network whose operations are rewritten.

    CUDA graphs are used where a step is one pass: a graph's next run overwrites the gradients of its last.
    """

    def __init__(self, gpu: bool, training: Training) -> None:
        one_pass = training.accumulate == 1 and not training.halve_on_out_of_memory
        self._gpu = gpu
        # Deterministic: its choice of kernels by timing them changes the order of sums.
        options: dict[str, Any] = {"deterministic": True, "triton.cudagraphs": gpu and one_pass}
        if gpu:
            from retrainer.training._rewrite.norms import JoinGradients

            options["post_grad_custom_pre_pass"] = JoinGradients()
        self._compile: Any = torch._TorchCompileInductorWrapper(None, options, False)

    def __call__(self, module: GraphModule, inputs: list[Any], **more: Any) -> Any:
        began = time.perf_counter()
        if self._gpu:
            from retrainer.training._rewrite import rewrite

            module = rewrite(module)
        made = self._compile(module, inputs, **more)
        _LOG.info("compiled for one shape in %.0f s (compute.compile)", time.perf_counter() - began)
        return made


def _work(learner: Learner, rows: Rows) -> float:
    """Floating-point operations of the whole run: those of one row's forward pass, counted once."""
    network = learner.network
    longest = 0 if rows.lengths is None else int(rows.lengths.argmax())
    batch, _ = rows.load(np.array([longest]), None)
    mode = network.training
    network.eval()
    with torch.no_grad(), autocast(learner.compute), FlopCounterMode(display=False) as counter:
        network(batch)
    network.train(mode)
    share = 1.0 if rows.lengths is None else float(rows.lengths.mean()) / int(rows.lengths.max())
    # An image was counted in eval mode, where some networks look at it more than once.
    work = counter.get_total_flops() / int(network.description.config.get("views", 1))
    return _PASSES * work * share * len(rows) * learner.training.epochs


def _whole(rows: Rows, training: Training, group: Group) -> Callable[[Batch], bool]:
    """Whether a part has all of its rows, and images of their whole size or texts of a length on the grid."""
    share = len(group.share(np.arange(min(training.batch_size, len(rows)))))
    count = -(-share // training.accumulate)
    longest = 0 if rows.lengths is None else int(rows.lengths.max(initial=1))
    multiple = _GPU_MULTIPLE if rows.targets.device.type == "cuda" else 1
    step = max(1, -(-longest // (_LENGTHS * multiple)) * multiple)

    def whole(batch: Batch) -> bool:
        tensor = next(iter(batch.values()))
        if len(tensor) != count:
            return False
        if not longest:
            return 4 * tensor[0].numel() == rows.row_bytes
        return tensor.shape[1] % step == 0 or tensor.shape[1] >= longest

    return whole
