"""Keras networks for tests: bodies of the family `keras`, and `.keras` files as a Keras user has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from retrainer.models import keras as family
from retrainer.models._keras import on_torch
from retrainer.models._network import Body

# Every way in which a layer holds values: trained, moved by a pass, and drawn from.
RICH = (
    {"Conv2D": {"filters": 4, "kernel_size": 3, "padding": "same"}},
    "BatchNormalization",
    {"Activation": {"activation": "relu"}},
    {"SpatialDropout2D": {"rate": 0.2}},
    "Flatten",
    {"Dropout": {"rate": 0.3, "seed": 7}},
    {"Dense": {"units": 8, "activation": "relu"}},
)


def pixels(size: int | None = 8, channels: int | None = 1) -> dict[str, Any]:
    return {"kind": "pixels", "size": size and [size, size], "channels": channels}


def built(
    spec: dict[str, Any] | None = None,
    weights: Path | str | None = None,
    fresh: bool = True,
    seed: int = 0,
    **options: Any,
) -> Body:
    options = options or ({} if weights else {"layers": RICH})
    return family.build(family.Options.parse(options, "backbone"), spec or pixels(), weights, seed, fresh)


def built_from(network: Callable[..., Any]) -> Body:
    """By a plug-in's function."""
    return family.from_function(network)(family.Scaling(), pixels(), None, 0, True)


def classifier(*layers: Any, shape: tuple[int, ...] = (8, 8, 1)) -> Any:
    """A Sequential of Keras' own with a softmax of three classes."""
    keras = on_torch()
    between = layers or (keras.layers.Flatten(), keras.layers.Dense(6, activation="relu"))
    return keras.Sequential([keras.Input(shape), *between, keras.layers.Dense(3, activation="softmax")])
