"""Keras 3 on its torch backend. The one file that imports `keras`."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from retrainer.errors import SettingError
from retrainer.models._start import drawn_from

_BACKEND = "KERAS_BACKEND"
_UIDS = "object_name_uids"


def on_torch() -> Any:
    """The package `keras`, with torch as its backend.

    Raises SettingError where Keras 3 is not installed, or this process has loaded it with another backend.
    """
    keras = sys.modules.get("keras") or _imported()
    if not hasattr(keras, "config"):
        raise SettingError(
            f"backbone.family: this is Keras {keras.__version__}, and needed is Keras 3; pip install"
            " 'retrainer[keras]'"
        )
    if (backend := keras.config.backend()) != "torch":
        raise SettingError(
            f"backbone.family: this process has imported keras with its backend {backend}, and Retrainer"
            " trains on torch; set KERAS_BACKEND=torch before keras is imported"
        )
    return keras


def _imported() -> Any:
    before = os.environ.get(_BACKEND)
    os.environ[_BACKEND] = "torch"  # read once, as keras is imported; its default is tensorflow
    try:
        import keras
    except ModuleNotFoundError as error:
        cure = "pip install 'retrainer[keras]'"
        if error.name == "keras":
            raise SettingError(f"backbone.family: keras is not installed; {cure}") from None
        raise SettingError(
            f"backbone.family: keras cannot be imported ({error}): where this process has tried it with"
            f" another backend before, begin a new one with KERAS_BACKEND=torch; else {cure}"
        ) from None
    finally:
        os.environ.pop(_BACKEND)
        if before is not None:
            os.environ[_BACKEND] = before
    return keras


@contextmanager
def built_alike(seed: int) -> Iterator[Any]:
    """Inside, a Keras model is made the same in every process: names, initial values, layout, on the CPU.

    Gives the package. Inside, a person's `keras.json`, and what else the process has made of Keras, count for
    nothing; outside, all is as before.
    """
    keras = on_torch()
    from keras.src.backend.common import global_state

    config, python = keras.config, random.getstate()
    layout, floats, policy = config.image_data_format(), config.floatx(), config.dtype_policy()
    names = global_state.get_global_attribute(_UIDS)
    global_state.set_global_attribute(_UIDS, None)
    random.seed(seed)  # from which Keras draws the seeds of its initializers
    try:
        config.set_image_data_format("channels_last")
        config.set_floatx("float32")
        config.set_dtype_policy("float32")
        with drawn_from(seed), keras.device("cpu"):
            yield keras
    finally:
        config.set_image_data_format(layout)
        config.set_floatx(floats)
        config.set_dtype_policy(policy)
        random.setstate(python)
        global_state.set_global_attribute(_UIDS, names)


def is_model(layer: Any) -> bool:
    """Whether it is a graph of layers, Functional or Sequential, whose layers have names that it keeps."""
    return isinstance(layer, on_torch().Model) and bool(getattr(layer, "inputs", None))


def leaves(model: Any) -> Iterator[Any]:
    """Its layers in their order; in the place of a model that is a layer, those of that model."""
    for layer in model.layers:
        if is_model(layer):
            yield from leaves(layer)
        else:
            yield layer
