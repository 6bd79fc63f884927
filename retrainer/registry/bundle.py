"""The registered form of a model: our model directory inside an MLflow model that loads with nothing else.

MLmodel, requirements.txt, …   MLflow's own
served.py                      what MLflow runs (see there for what it accepts and answers)
code/retrainer/…               the library code that serving imports, and a plug-in's
artifacts/model/               the model directory, byte for byte
model.sig                      where it is signed: over everything above (see signing.py)
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.registry import served_code, signing
from retrainer.services.connection import environment, settle_environment

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from mlflow.models import Model, ModelSignature

_SERVED = Path(__file__).with_name("served.py")
_EXAMPLE_ROWS = 2
_INPUTS = ("text", "text_pair", "image")

# Checks that take many seconds and whose findings we give ourselves.
_DURING_SAVE = {
    "MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true",
    "MLFLOW_SUPPRESS_PIP_REQUIREMENTS": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",
}


def save_bundle(
    model: Path, sample: pa.Table, into: Path, model_id: str, run_id: str, key: bytes | None = None
) -> None:
    """Writes the registered form of the model directory to the new directory `into`; signed with `key`.

    `sample` holds raw inputs: its columns are those that the model is asked with, its first rows the example.
    """
    settle_environment()
    from mlflow.models import Model
    from mlflow.pyfunc import save_model

    about = json.loads((model / "model.json").read_text(encoding="utf-8"))
    # What is signed carries the means to check it where it is served.
    signing_code = (signing.__name__,) if key else ()
    modules, packages = served_code.needed(about["family"], about["task"]["kind"], signing_code)
    frame = raw_frame(sample)
    written = Model(artifact_path="model", run_id=run_id, model_uuid=model_id, model_id=model_id)
    with tempfile.TemporaryDirectory() as scratch, environment(_DURING_SAVE):
        # A copy under the name that it has inside: MLflow follows no link, as DVC may have made here.
        inside = Path(shutil.copytree(model, Path(scratch) / "model"))
        save_model(
            str(into),
            mlflow_model=written,
            python_model=str(_SERVED),
            code_paths=[str(path) for path in served_code.copy(modules, Path(scratch) / "code")],
            artifacts={"model": str(inside)},
            model_config={"columns": list(frame.columns)},
            signature=_signature(frame, bool(about["task"].get("multi_label"))),
            input_example=frame.head(_EXAMPLE_ROWS),
            pip_requirements=served_code.requirements(packages),
        )
    _forget_places(written, into)
    if key is not None:
        signing.sign(into, key)


def raw_frame(sample: pa.Table) -> pd.DataFrame:
    """Raw inputs as a caller would send them: strings, and images as encoded bytes."""
    import pandas as pd

    columns: dict[str, list[Any]] = {n: sample[n].to_pylist() for n in _INPUTS if n in sample.column_names}
    if "image" in columns:
        columns["image"] = [image["bytes"] for image in columns["image"]]
    return pd.DataFrame(columns)


def _signature(frame: pd.DataFrame, multi_label: bool) -> ModelSignature:
    """Unnamed inputs, so that a plain list is accepted too; `served.py` checks names where there are any."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import Array, DataType, Map

    kinds = [DataType.binary if name == "image" else DataType.string for name in frame.columns]
    answer = ColSpec(Array(DataType.string), "labels") if multi_label else ColSpec(DataType.string, "label")
    outputs = Schema([answer, ColSpec(Map(DataType.double), "probabilities")])
    return ModelSignature(inputs=Schema([ColSpec(kind) for kind in kinds]), outputs=outputs)


def _forget_places(written: Model, into: Path) -> None:
    """MLflow notes where things lay on this machine; nobody else can use that."""
    flavor = written.flavors["python_function"]
    flavor["model_code_path"] = _SERVED.name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    written.save(str(into / "MLmodel"))
