"""Attribution methods, each Captum's: of a case the value of each of its P parts, float64 [P]; and the curves
of deletion and insertion by which an order of the parts is judged.

Legend: P parts of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.trust._attribution_cases import Case
from retrainer.attribution.captum import captum
from retrainer.attribution.explain import Explainer
from retrainer.predict import Predictor

_POINTS = 11  # of the curves of deletion and insertion
_SMOOTH, _NOISE = 8, 0.15  # SmoothGrad: samples, and noise as a share of a row's range (arXiv:1706.03825)
Method = Callable[[Predictor, Any, Case], np.ndarray]


def integrated(predictor: Predictor, network: Any, case: Case, baseline: Tensor | None = None) -> np.ndarray:
    start = case.baseline if baseline is None else baseline
    forward, attr = case.forward(predictor, network), captum()
    if case.layer is not None:
        layer = network.body.get_input_embeddings()
        method = attr.LayerIntegratedGradients(forward, layer)
        return case.by_part(method.attribute(case.values, start, n_steps=16).sum(2))
    return case.by_part(attr.IntegratedGradients(forward).attribute(case.values, start, n_steps=16))


def from_black(predictor: Predictor, network: Any, case: Case) -> np.ndarray:
    about = predictor.network.description.preprocessing
    black = [-mean / std for mean, std in zip(about["mean"], about["std"], strict=True)]
    start = torch.tensor(black)[None, :, None, None].expand_as(case.values)
    return integrated(predictor, network, case, start)


def smooth(predictor: Predictor, network: Any, case: Case) -> np.ndarray:
    torch.manual_seed(0)
    attr = captum()
    noise = _NOISE * float(case.values.max() - case.values.min())
    method = attr.NoiseTunnel(attr.IntegratedGradients(case.forward(predictor, network)))
    made = method.attribute(
        case.values, nt_samples=_SMOOTH, stdevs=noise, baselines=case.baseline, n_steps=16
    )
    return case.by_part(made)


def gradient_times_input(predictor: Predictor, network: Any, case: Case) -> np.ndarray:
    forward, attr = case.forward(predictor, network), captum()
    if case.layer is not None:
        method = attr.LayerGradientXActivation(forward, network.body.get_input_embeddings())
        return case.by_part(method.attribute(case.values).sum(2))
    return case.by_part(attr.InputXGradient(forward).attribute(case.values.clone().requires_grad_()))


def occlusion(predictor: Predictor, network: Any, case: Case) -> np.ndarray:
    """Each part in turn becomes the baseline."""
    kept = (case.mask < 0).expand(case.values.shape)
    start = torch.where(kept, case.values, case.baseline)
    with torch.no_grad():
        made = (
            captum()
            .FeatureAblation(case.forward(predictor, network))
            .attribute(case.values, start, feature_mask=case.mask + 1, perturbations_per_eval=64)
        )
    mask = case.mask.expand(made.shape).flatten()
    found = np.zeros(case.parts)
    found[mask[mask >= 0].numpy()] = made.flatten()[mask >= 0].double().numpy()
    return found


def input_alone(predictor: Predictor, network: Any, case: Case) -> np.ndarray:  # noqa: ARG001
    """No network: how far each part is from the baseline; of a text how many tokens a word has."""
    return case.by_part(
        (case.values != case.baseline).float() if case.layer is not None else case.values.abs()
    )


METHODS: dict[str, Method] = {
    "integrated gradients": integrated,
    "the same from black": from_black,
    "the same, SmoothGrad": smooth,
    "gradient × input": gradient_times_input,
    "occlusion": occlusion,
    "the input alone": input_alone,
}


def fits(name: str, explainer: Explainer) -> bool:
    """Black is a colour, and noise is added to numbers: a text has token ids."""
    if METHODS[name] is from_black:
        return explainer.kind == "pixels"
    return METHODS[name] is not smooth or explainer.kind != "tokens"


def curves(predictor: Predictor, case: Case, order: np.ndarray) -> tuple[float, float]:
    """Deletion and insertion, while the parts go or come in this order."""
    forward = case.forward(predictor, predictor.network)
    place = torch.empty(case.parts, dtype=torch.long)
    place[torch.from_numpy(order.copy())] = torch.arange(case.parts)
    rank = torch.where(case.mask < 0, case.parts, place[case.mask.clamp(min=0)]).expand(case.values.shape)
    gone = [round(share * case.parts) for share in np.linspace(0, 1, _POINTS)]
    both = []
    with torch.no_grad():
        for inside, outside in ((case.baseline, case.values), (case.values, case.baseline)):
            kept = torch.where(case.mask < 0, case.values, outside)
            made = torch.cat([torch.where(rank < count, inside, kept) for count in gone])
            both.append(float(forward(made).sigmoid().mean()))
    return both[0], both[1]
