"""Sharded training (`compute.fsdp`): each process holds its share of every weight, gradient and moment.

PyTorch's FSDP2 gathers a block's weights when the block runs and sums its gradients into the shares (Zhao et
al. 2023, arXiv:2304.11277). A sharded tensor is a DTensor, whose methods `whole` and `share_of` use; reading
one whole takes all processes at once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from retrainer.training.learner import Learner


@contextmanager
def sharded(learner: Learner, device: torch.device) -> Iterator[Learner]:
    """Inside, a copy of the network trains, shared out over the group's processes; the network itself stays
    on the CPU and has the trained values afterwards.
    """
    network = copy.deepcopy(learner.network)
    _shard(network, [network.body.get_submodule(name) for name in _blocks(learner)], device)
    yield replace(learner, network=network, group=replace(learner.group, sharded=True))
    with torch.no_grad():
        trained = network.state_dict()
        for name, tensor in learner.network.state_dict().items():
            tensor.copy_(whole(trained[name]))


def _blocks(learner: Learner) -> list[str]:
    body = learner.network.description
    return body.blocks(body.module)


def _shard(network: nn.Module, blocks: list[nn.Module], device: torch.device) -> None:
    """Each block is gathered by itself, all else with the network; nothing stays whole behind its use."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for module in (*blocks, network):
        module.register_forward_hook(_in_own_memory)
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
    for module in network.modules():
        if isinstance(module, FSDPModule):  # sums as in `Group.sum_gradients`, not means
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    network.to(device)  # buffers, which every process holds


def _in_own_memory(module: nn.Module, inputs: Any, output: Any) -> Any:  # noqa: ARG001 (PyTorch's interface)
    """A block's output, copied where it is a view: what then changes it in place would undo the hook by which
    the block's weights are gathered for its backward pass.
    """
    return output.clone() if isinstance(output, Tensor) and output._is_view() else output


def is_shared(tensor: Tensor) -> bool:
    """Whether each process holds a share of it."""
    return hasattr(tensor, "to_local")


def local(tensor: Any) -> Tensor:
    """This process's share, in the same memory; of a tensor that is not shared all of it."""
    found: Tensor = tensor.to_local() if is_shared(tensor) else tensor
    return found


def whole(tensor: Any) -> Tensor:
    """All shares together, for which all processes must ask."""
    found: Tensor = tensor.full_tensor() if is_shared(tensor) else tensor
    return found


def share_of(value: Tensor, like: Any) -> Any:
    """Of a whole tensor, which every process has, what this one holds of a tensor `like`."""
    if not is_shared(like) or is_shared(value):
        return value
    from torch.distributed.tensor import distribute_tensor

    placed = value.to(like.device)
    return distribute_tensor(placed, like.device_mesh, like.placements, src_data_rank=None)
