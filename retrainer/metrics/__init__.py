"""Metrics, one file each; what they offer stands in `_protocol.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from retrainer import extend

if TYPE_CHECKING:
    from retrainer.metrics._protocol import Metric


def load(name: str, setting: str) -> Metric:
    """The metric of a built-in name, or of a plug-in's dotted path. Raises UserError that names `setting`."""
    return cast("Metric", extend.load("metrics", name, setting))
