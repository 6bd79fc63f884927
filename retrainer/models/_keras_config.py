"""The architecture of a Keras model as JSON, and back, without running any code that the JSON brings.

Keras' own `safe_mode` refuses Lambda and pickles. Here only what a network is made of is let through at all:
Keras' layers, initializers and the like by name, and classes that a person's own code has registered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from retrainer.errors import SettingError, nearest
from retrainer.models._keras import is_model, leaves
from retrainer.models._start import brief

_MODULES = {
    "keras.activations",
    "keras.constraints",
    "keras.initializers",
    "keras.layers",
    "keras.ops",
    "keras.regularizers",
}
_GRAPHS = {("keras", "Sequential"), ("keras", "DTypePolicy"), ("keras.src.models.functional", "Functional")}
_PARTS = ("keras.src.ops.", "keras.src.applications.")
_PLAIN = {"__keras_tensor__", "__tensor__", "__numpy__", "__ellipsis__", "__slice__"}
# Layers that run code or read files which the JSON names, or that are not of torch.
_REFUSED = {
    "FlaxLayer",
    "IntegerLookup",
    "JaxLayer",
    "Lambda",
    "StringLookup",
    "TFSMLayer",
    "TextVectorization",
    "TorchModuleWrapper",
}
_FLOAT32, _MIXED = "float32", ("mixed_float16", "mixed_bfloat16")
# These, and augmentation (RandomFlip, …), leave the scale of pixels as it is.
_KEEPS_SCALE = {"InputLayer", "CenterCrop", "Cropping2D", "Flatten", "Permute", "Reshape", "Resizing"}
# What a head ends in, by the names of activations.
_OF_A_HEAD = {"linear", "softmax", "sigmoid"}
_ENDS = {
    "Dense",
    "Activation",
    "Softmax",
    "Rescaling",
}  # Rescaling: a temperature, as `make export` writes it


def to_config(keras: Any, model: Any) -> dict[str, Any]:
    """JSON for `from_config`. Raises SettingError where the model cannot be made again from it."""
    try:
        config: dict[str, Any] = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    except Exception as error:  # a layer of a person's own fails in its own ways
        raise SettingError(
            f"backbone.family: the network cannot be written as JSON ({brief(error)}); give its own layers"
            " get_config, and register them by keras.saving.register_keras_serializable"
        ) from None
    drop_training(config)
    require_plain(keras, config, "backbone.family: the network")
    return config


def from_config(keras: Any, config: dict[str, Any], what: str = "the network") -> Any:
    """The model with random values. Raises SettingError, beginning with `what`, for JSON that is none."""
    require_plain(keras, config, what)
    try:
        model = keras.saving.deserialize_keras_object(deepcopy(config), safe_mode=True)  # it takes keys out
        if is_model(model) and model.built:
            return model
        reason = "it is no Functional or Sequential model with an input"
    except Exception as error:  # whatever Keras meets in a config that is not its own
        # Before the reason Keras may say all of the config.
        reason = brief(Exception(str(error).rpartition("Exception encountered: ")[2]))
    raise SettingError(f"{what} cannot be built by Keras {keras.__version__}: {reason}")


def require_plain(keras: Any, config: Any, what: str) -> None:
    """Raises SettingError that names the first object which is no part of a network."""
    own_names = own_classes(keras, config)
    for entry in _objects(config):
        name, module = str(entry["class_name"]), str(entry.get("module"))
        own = entry.get("registered_name") in own_names or name in _PLAIN
        of_keras = module in _MODULES or (module, name) in _GRAPHS or module.startswith(_PARTS)
        built_in = module == "builtins" and name == "function"  # Keras looks for it among its own alone
        if name in _REFUSED or not (own or of_keras or built_in):
            raise SettingError(
                f"{what} holds {name[:60]!r} of {module[:60]!r}; read are layers of Keras that neither run"
                " code nor open files, and classes that your plug-in registers: leave it out, or register it"
            )


def own_classes(keras: Any, config: Any) -> list[str]:
    """The names by which a person's own code has registered what the network holds of it."""
    named = {str(entry.get("registered_name")) for entry in _objects(config)}
    return sorted(named & keras.saving.get_custom_objects().keys())


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Every serialized object, however deep. A loop: what is nested too deep must not end the process."""
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if "class_name" in part:
                yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def drop_training(config: dict[str, Any]) -> None:
    """Takes out optimiser, loss and metrics, also those of a model inside the model."""
    for entry in _objects(config):
        entry.pop("compile_config", None)


def body_of(keras: Any, model: Any, shape: tuple[int, ...]) -> Any:
    """A Functional model of one input and one output, without its head, whose layers compute in float32.

    A head is the last Dense without activation, with softmax or sigmoid, and an activation behind it: the
    task brings its own. Raises SettingError for what the fit loop cannot train as Keras would.
    """
    if not isinstance(model, keras.layers.Layer):
        raise SettingError(
            f"backbone.family: its function gives {type(model).__name__}; let it return a model of Keras"
        )
    if not is_model(model):  # a Sequential without an input, which this builds, or a class of its own
        inputs = keras.Input(shape)
        outputs = model(inputs)
        model = model if is_model(model) else keras.Model(inputs, outputs)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise SettingError(
            f"backbone.family: the network has {len(model.inputs)} inputs and {len(model.outputs)} outputs;"
            " needed is one of each"
        )
    body = keras.Model(model.inputs[0], _without_head(model), name="body")
    for layer in body._flatten_layers(include_self=False):  # also those inside layers, as an LSTM's cell
        _require_trainable(layer)
    return body


def _without_head(model: Any) -> Any:
    """The output below the head; that of the whole model where it has none."""
    made = whole = model.outputs[0]
    while (kind := type(made._keras_history.operation).__name__) in _ENDS:
        operation, place, _ = made._keras_history
        activation = operation.get_config().get("activation", "linear")
        if str(activation) not in _OF_A_HEAD:
            return whole
        made = operation._inbound_nodes[place].input_tensors[0]
        if kind == "Dense":
            return made
    return whole


def _require_trainable(layer: Any) -> None:
    name, policy = layer.name, getattr(layer, "dtype_policy", None)
    if not name or not name.isprintable():
        raise SettingError(f"backbone.family: a layer is named {name!r}; give it a name that can be read")
    if policy is not None and policy.name in _MIXED:
        layer.dtype_policy = _FLOAT32  # the weights are float32; the format is compute.dtype
    elif policy is not None and policy.name != _FLOAT32 and layer.weights:
        raise SettingError(
            f"backbone.family: layer {name} holds its weights as {policy.name}; build it in float32, and"
            " choose the number format by compute.dtype"
        )
    ends = ("_regularizer", "_constraint")
    if kept := [key for key in vars(layer) if key.endswith(ends) and getattr(layer, key)]:
        raise SettingError(
            f"backbone.family: layer {name} has a {kept[0]}, which only Keras' own fit applies; leave it out,"
            " and set training.weight_decay"
        )


def begins_with_scaling(model: Any) -> bool:
    """Whether pixels are scaled before all else: people then mean those from 0 to 255."""
    kinds = (type(layer).__name__ for layer in leaves(model))
    first = (kind for kind in kinds if kind not in _KEEPS_SCALE and not kind.startswith("Random"))
    return next(first, "") in ("Rescaling", "Normalization")


def layer_class(keras: Any, name: str, where: str) -> Any:
    """One of keras.layers. Raises SettingError beginning with `where` for a name that is none."""
    known = [
        known
        for known, made in vars(keras.layers).items()
        if isinstance(made, type) and known not in _REFUSED
    ]
    if name not in known:
        raise SettingError(f"{where}: keras.layers has no layer {name!r}{nearest(name, known)}")
    return getattr(keras.layers, name)
