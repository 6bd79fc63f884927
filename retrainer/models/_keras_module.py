"""A Keras model as a module of PyTorch.

Keras names and registers its variables by counters of the process, switches dropout and BatchNorm by an
argument, and computes on a device of its own choice. Here the variables stand in the tree of modules by names
that follow from the architecture alone, `.train()` and `.eval()` count layer by layer, and the device is that
of the input.

Legend: B rows of a batch, H height, W width, C channels, D feature width.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from retrainer.models._keras import built_alike, is_model, leaves, on_torch
from retrainer.models._keras_config import from_config, to_config


class KerasModule(nn.Module):
    """A built Keras model [B, …] → [B, D] as a module that all else of PyTorch can be done with.

    A child stands for each of its layers, by the layer's name, and holds its values: what is trained as
    parameters, all else (statistics, states of random generators, layers with `trainable=False`) as buffers.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        # In a tuple, for PyTorch would take the model's own names into its tree.
        self._keras = (model,)
        self._places: list[tuple[Any, nn.Module, str]] = []
        self._names: dict[int, str] = {}
        self._add_layers(self, model, "")

    @property
    def model(self) -> Any:
        return self._keras[0]

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, C, H, W] → [B, D]. Keras reads [B, H, W, C], or the same values in the shape of its input."""
        keras, inputs = on_torch(), pixels.permute(0, 2, 3, 1)
        wanted = self.model.input_shape[1:]
        if len(wanted) != 3:
            inputs = inputs.reshape(-1, *wanted)
        values = [(variable, getattr(place, name)) for variable, place, name in self._places]
        with keras.device(str(pixels.device)), keras.StatelessScope(values) as scope:
            made: Tensor = self.model(inputs, training=self.training)
        if any(part.training for part in self.modules()):
            self._keep_updates(scope)
        return made

    def _keep_updates(self, scope: Any) -> None:
        """Statistics, and states of random generators, that this pass has moved."""
        for variable, place, name in self._places:
            if (buffer := place._buffers.get(name)) is None:
                continue
            moved = scope.get_current_value(variable)
            if moved is not buffer:
                with torch.no_grad():
                    buffer.copy_(moved)

    def _add_layers(self, place: nn.Module, owner: Any, path: str) -> None:
        """The layers inside `owner`, and the variables that are none of theirs, below `place`."""
        for layer in owner.layers if is_model(owner) else owner._layers:
            if id(layer) in self._names:  # one that is used twice has one set of values
                continue
            # Inside a layer names may come from a counter of the process; its class follows from its code.
            name = _free(place, layer.name if is_model(owner) else _snake(type(layer).__name__))
            inner = nn.Module()
            place.add_module(name, inner)
            self._names[id(layer)] = f"{path}{name}"
            self._add_layers(inner, layer, f"{path}{name}.")
            if not is_model(layer):
                layer.register_forward_pre_hook(partial(_in_own_mode, inner), with_kwargs=True)
        held = {id(variable) for variable, _, _ in self._places}
        for variable in owner.variables:
            if id(variable) not in held:
                self._add_variable(place, variable)

    def _add_variable(self, place: nn.Module, variable: Any) -> None:
        name, value = _free(place, variable.name), variable.value.detach()
        if variable.trainable:
            place.register_parameter(name, nn.Parameter(value))
        else:
            place.register_buffer(name, value)
        self._places.append((variable, place, name))

    def blocks(self) -> list[str]:
        """Names of the layers that are trained, in their order; of a model inside the model, its layers."""
        return [
            self._names[id(layer)]
            for layer in leaves(self.model)
            if any(True for _ in self.get_submodule(self._names[id(layer)]).parameters())
        ]

    def __deepcopy__(self, memo: dict[int, Any]) -> KerasModule:
        """A model of its own with the same values: Keras' objects are made again and not copied."""
        with built_alike(0) as keras:
            made = KerasModule(from_config(keras, to_config(keras, self.model)))
        memo[id(self)] = made
        values = self.state_dict()
        made.load_state_dict(values)
        for value in values.values():
            made.to(value.device)
            break
        for part, own in zip(made.modules(), self.modules(), strict=True):
            part.training = own.training
        return made


def _in_own_mode(place: nn.Module, _: Any, inputs: Any, more: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Whether the layer is in training, its own module says; the model gives all layers one answer."""
    return inputs, more | {"training": place.training} if "training" in more else more


def _free(place: nn.Module, name: str) -> str:
    """The name, or the first of `name_1`, `name_2`, … that `place` has not got yet."""
    name, count, plain = _plain(name), 0, _plain(name)
    while hasattr(place, name):
        count += 1
        name = f"{plain}_{count}"
    return name


def _plain(name: str) -> str:
    return name.replace(".", "_")


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
