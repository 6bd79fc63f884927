"""The one file that calls Captum."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from torch import Tensor

from retrainer.errors import ModelError
from retrainer.refused import despite_refusal

if TYPE_CHECKING:
    from retrainer.attribution.inputs import Path

_DRAWING = "captum.attr._utils.visualization"


def gradients(forward: Callable[..., Tensor], path: Path, others: tuple[Any, ...]) -> Tensor:
    """Integrated Gradients along the path, as Captum has them: of the shape of what the path runs through.

    The integral is Captum's default, Gauss-Legendre quadrature. In PyTorch's deterministic mode a gradient
    that has no deterministic form, as some have none on a GPU, is taken all the same.
    """
    return despite_refusal(lambda: _gradients(forward, path, others))


def _gradients(forward: Callable[..., Tensor], path: Path, others: tuple[Any, ...]) -> Tensor:
    attr = captum()
    common = {
        "baselines": path.baseline,
        "additional_forward_args": others,
        "n_steps": path.steps,
        "internal_batch_size": path.points_at_once if path.points_at_once < path.steps else None,
    }
    if path.layer is not None:
        found = attr.LayerIntegratedGradients(forward, path.layer).attribute(path.values, **common)
    else:
        found = attr.IntegratedGradients(forward).attribute(path.values, **common)
    assert isinstance(found, Tensor)
    return found.detach()


def captum() -> Any:
    """The module `captum.attr`. Raises UserError where Captum is not installed."""
    with _without_drawing():
        try:
            import captum.attr
        except ModuleNotFoundError as missing:
            raise ModelError(f"no attributions: {missing}; pip install 'retrainer[pipeline]'") from None
    return captum.attr


def version() -> str:
    """Of Captum."""
    import captum

    return str(captum.__version__)


@contextmanager
def _without_drawing() -> Iterator[None]:
    """Captum imports Matplotlib's plots for figures that nobody draws here, and these make a list of all
    fonts where none is cached (a fresh container). A module of empty names stands in their place until Captum
    is imported."""
    if "captum.attr" in sys.modules or _DRAWING in sys.modules:
        yield
        return
    nothing = ModuleType(_DRAWING)
    nothing.__getattr__ = lambda _: None  # type: ignore[method-assign]
    sys.modules[_DRAWING] = nothing
    try:
        yield
    finally:
        del sys.modules[_DRAWING]
