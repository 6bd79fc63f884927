"""torch.compile of the training step, for a few whole shapes; all others run as they are written.

Which shapes those are follows from the settings and the data alone. Compiling whatever comes until a limit is
reached would make the numbers depend on the order in which shapes came, and a run that goes on after a kill
sees them in another.

Legend: B rows of a part, T padded length.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from retrainer.errors import UserError
from retrainer.settings import Compute, Training
from retrainer.training._distributed import Group
from retrainer.training.feeder import Batch, Rows

# At most so many lengths of texts, evenly spread, and the longest: each costs its own compilation.
_LENGTHS = 8
_GPU_MULTIPLE = 8
_COMPILERS = ("cc", "gcc", "clang", "g++", "clang++", "cl")


def compiled(
    network: nn.Module, rows: Rows, training: Training, compute: Compute, group: Group
) -> Callable[[Batch], Tensor]:
    """The network as `torch.compile` runs it, if the settings say so. Raises UserError where it cannot.

    CUDA graphs are used where a step is one pass: a graph's next run overwrites the gradients of its last.
    """
    if not compute.compile:
        return network
    if not any(map(shutil.which, _COMPILERS)):
        raise UserError(
            "compute.compile: torch.compile needs a C compiler, and there is none here (such as gcc);"
            " install one, or leave it out"
        )
    if training.checkpoint_activations:
        raise UserError(
            "training.checkpoint_activations: torch.compile (compute.compile) chooses itself what it keeps;"
            " leave one of them out"
        )
    torch.compiler.reset()  # what else this process has compiled would count
    torch._dynamo.config.recompile_limit = 2 * _LENGTHS
    one_pass = training.accumulate == 1 and not training.halve_on_out_of_memory
    # Deterministic: its choice of kernels by timing them changes the order of sums.
    options = {"deterministic": True, "triton.cudagraphs": compute.device == "cuda" and one_pass}
    run: Callable[[Batch], Tensor] = torch.compile(network, dynamic=False, options=options)
    whole = _whole(rows, training, group)
    return lambda batch: run(batch) if whole(batch) else network(batch)


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
