"""Feature maps of several scales from any convolutional network: the output of its last block at each scale.

Legend: B images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from retrainer.errors import SettingError
from retrainer.models._network import Batch, Body
from retrainer.models._start import brief

# Of the image's side: what detectors look at (Lin et al. 2017, arXiv:1612.03144), and before them one that
# masks look at too. A body's config says which is its finest; where it says nothing, 8.
STRIDES = (4, 8, 16, 32)
FINEST = 8


def maps_config(input_spec: dict[str, Any]) -> dict[str, Any]:
    """What a body's config says of the maps that the task asks for."""
    return {"maps": True, **({"finest": input_spec["finest"]} if "finest" in input_spec else {})}


def with_maps(body: Body) -> Body:
    """The same body, whose features are maps [B, C_i, H_i, W_i] at its STRIDES, the finest first.

    What the network computes after its last map is replaced by nothing, and its weights are gone. Raises
    UserError when it has no such map.
    """
    sides = body.config["size"]
    order, shapes = _seen(body, (int(body.config["channels"]), int(sides[0]), int(sides[1])))
    blocks = [name for name in body.blocks(body.module) if name in shapes]
    wanted = [stride for stride in STRIDES if stride >= body.config.get("finest", FINEST)]
    last = {stride: name for name in blocks for stride in wanted if _is_at(shapes[name], sides, stride)}
    if not last:
        raise SettingError(
            "backbone.name: this network has no feature maps at a stride of 8, 16 or 32, which boxes and"
            " masks need; choose a convolutional one, such as resnet18 or tf_efficientnet_lite0"
        )
    if wanted[0] < min(last):  # what stands before the first block, a pooling for instance
        stems = [name for name, _ in body.module.named_children() if name in shapes]
        for name in stems:
            last |= {wanted[0]: name} if _is_at(shapes[name], sides, wanted[0]) else {}
    strides = tuple(sorted(last))
    names = [last[stride] for stride in strides]
    cut = _cut_after(body.module, order, names)
    widths = tuple(int(shapes[name][1]) for name in names)
    maps = _maps_of(names)
    width = widths[-1]
    body.config["width"] = width
    return replace(
        body, features=maps, maps=maps, map_widths=widths, map_strides=strides, width=width, cut=cut
    )


def _is_at(shape: torch.Size, sides: list[int], stride: int) -> bool:
    return all(-(-side // stride) == found for side, found in zip(sides, shape[2:], strict=True))


def _seen(body: Body, shape: tuple[int, int, int]) -> tuple[list[str], dict[str, torch.Size]]:
    """Names of modules in the order in which they end, and the shapes of those that give a map."""
    order: list[str] = []
    shapes: dict[str, torch.Size] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, made: Any) -> None:
            order.append(name)
            if isinstance(made, Tensor) and made.dim() == 4:
                shapes[name] = made.shape

        return hook

    module, training = body.module, body.module.training
    hooks = [part.register_forward_hook(note(name)) for name, part in module.named_modules() if name]
    module.eval()
    try:
        with torch.no_grad():
            body.features(module, {"pixels": torch.zeros(1, *shape)})
    except Exception as error:  # a foreign architecture fails in its own ways
        raise SettingError(
            f"task.size: this backbone cannot take {list(shape[1:])}: {brief(error)}"
        ) from None
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()
    return order, shapes


def _cut_after(module: nn.Module, order: list[str], names: list[str]) -> tuple[str, ...]:
    """Takes out the layers with weights that come after the last of `names`: no map depends on them."""
    end = max(order.index(name) for name in names)
    behind = [name for name in order[end + 1 :] if not any(n.startswith(f"{name}.") for n in names)]
    cut = [name for name in behind if list(module.get_submodule(name).parameters(recurse=False))]
    for name in cut:
        module.set_submodule(name, nn.Identity())
    return tuple(cut)


def _maps_of(names: list[str]) -> Callable[[nn.Module, Batch], list[Tensor]]:
    def maps(module: nn.Module, batch: Batch) -> list[Tensor]:
        with _outputs(module, names) as made:
            module(batch["pixels"])
        return [made[name] for name in names]

    return maps


@contextmanager
def _outputs(module: nn.Module, names: list[str]) -> Iterator[dict[str, Tensor]]:
    """What the named parts give in a pass that is made inside."""
    made: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _, __, output: made.__setitem__(name, output)

    hooks = [module.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield made
    finally:
        for hook in hooks:
            hook.remove()
