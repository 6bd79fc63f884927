"""A Keras network as one `.keras` file: pixels from 0 to 255 in, calibrated probabilities or a number out.

Legend: H height, W width, C channels, D feature width, K outputs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrainer.export.description import Exported
from retrainer.export.tensors import last_layer

FILE = "model.keras"
_LOGITS, _NUMBER = "logits", "prediction"


def write_keras(exported: Exported, folder: Path) -> dict[str, Any]:
    """Writes `model.keras`, which `keras.saving.load_model` opens; returns what loads it.

    Its input is [rows, H, W, C]; the layer `logits` gives [rows, K] before temperature and softmax.
    """
    from retrainer.models._keras import built_alike
    from retrainer.models._keras_config import own_classes

    with built_alike(0) as keras:
        _whole(keras, exported).save(folder / FILE)
        own = own_classes(keras, exported.config["network"])
    output = _NUMBER if exported.is_number else _LOGITS
    return {"library": "keras", "file": FILE, "output": output, "own_classes": own}


def _whole(keras: Any, exported: Exported) -> Any:
    rule, layers = exported.preprocessing, keras.layers
    body = _body(keras, exported)
    pixels = keras.Input((*rule["size"], rule["channels"]), name="pixels")
    scales = [1 / (255 * std) for std in rule["std"]]
    offsets = [-mean / std for mean, std in zip(rule["mean"], rule["std"], strict=True)]
    scaled = layers.Rescaling(scales, offsets, name="scaled")(pixels)
    if len(body.input_shape) != len(pixels.shape):
        scaled = layers.Reshape(body.input_shape[1:], name="flat")(scaled)
    last = layers.Dense(exported.outputs, name=_NUMBER if exported.is_number else _LOGITS)
    made = last(body(scaled))
    weight, bias = last_layer(exported)
    last.set_weights([weight.T.numpy(), bias.numpy()])
    if not exported.is_number:
        calibrated = layers.Rescaling(1 / exported.model.predictor.temperature, name="calibrated")(made)
        how = "sigmoid" if exported.has_several else "softmax"
        made = layers.Activation(how, name="probabilities")(calibrated)
    return keras.Model(pixels, made, name="model")


def _body(keras: Any, exported: Exported) -> Any:
    """The network below the outputs, made again: the one that predicts stays as it is."""
    from retrainer.models._keras_config import from_config
    from retrainer.models._keras_module import KerasModule

    module = KerasModule(from_config(keras, exported.config["network"]))
    module.load_state_dict(exported.model.predictor.network.body.state_dict())
    return module.model
