"""A network as one ONNX file, whose batch, and of texts whose length, may be any.

Legend: B rows, T tokens, K classes.
"""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.errors import ModelError, SettingError
from retrainer.export.description import Exported, answers_of, preprocessing_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FILE = "model.onnx"
# Old enough for most programs that read ONNX.
_OPSET = 18
_EXAMPLE_ROWS, _EXAMPLE_TOKENS = 2, 7


def write_onnx(exported: Exported, folder: Path) -> dict[str, Any]:
    """Writes `model.onnx`; returns what loads it.

    Inputs are those of `preprocessing.json`. Of classes it gives `logits` [B, K] and `probabilities` [B, K],
    calibrated as the model is; of a number `prediction` [B, 1]. Raises ModelError where PyTorch's exporter
    cannot follow the network.
    """
    import torch

    require_packages()
    names = ["prediction"] if exported.is_number else ["logits", "probabilities"]
    module, example = _answering(exported).eval(), _example(exported)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                tuple(example.values()),
                input_names=list(example),
                output_names=names,
                opset_version=_OPSET,
                dynamic_shapes={"inputs": tuple(_dynamic(exported) for _ in example)},
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter's own, and whatever a network's code raises when it is traced
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"family {exported.family} cannot be written as ONNX: {reason}") from None
    assert program is not None
    program.model.metadata_props.update(_metadata(exported))
    program.save(folder / FILE)
    return {"library": "onnx", "file": FILE, "output": names[0]}


def require_packages() -> None:
    """Raises SettingError where one of them is not installed."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(name) is None:
            raise SettingError(f"FORMAT=onnx: {name} is not installed; run make setup")


def _answering(exported: Exported) -> torch.nn.Module:
    """The network with its inputs one by one, and its answers as people want them."""
    from torch import nn

    predictor, names = exported.model.predictor, exported.inputs
    network, temperature = predictor.network, predictor.temperature
    is_number = exported.is_number
    several = exported.has_several

    class Answering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *inputs: Tensor) -> Any:
            outputs = self.network(dict(zip(names, inputs, strict=True))).float()
            if is_number:
                return outputs * self.network.head.deviation + self.network.head.mean
            calibrated = outputs / temperature
            return outputs, calibrated.sigmoid() if several else calibrated.softmax(dim=1)

    return Answering()


def _example(exported: Exported) -> dict[str, Tensor]:
    import torch

    rule = exported.preprocessing
    if rule["kind"] == "pixels":
        return {"pixels": torch.zeros(_EXAMPLE_ROWS, rule["channels"], *rule["size"])}
    shape = (_EXAMPLE_ROWS, min(_EXAMPLE_TOKENS, rule["max_length"]))
    return {name: torch.full(shape, int(name == "attention_mask")) for name in exported.inputs}


def _dynamic(exported: Exported) -> dict[int, Any]:
    from torch.export import Dim

    rows = {0: Dim("rows")}
    if exported.preprocessing["kind"] == "pixels":
        return rows
    return rows | {1: Dim("tokens", max=exported.preprocessing["max_length"])}


def _metadata(exported: Exported) -> dict[str, str]:
    """What the file says of itself, for those who get it without its folder."""
    return {
        "model_sha256": exported.model.predictor.model_sha256,
        "preprocessing": json.dumps(preprocessing_of(exported)),
        "answers": json.dumps(answers_of(exported), ensure_ascii=False),
    }
