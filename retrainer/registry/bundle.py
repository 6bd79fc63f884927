"""The registered form of a model: our model directory inside an MLflow model that loads with nothing else.

MLmodel, requirements.txt, …   MLflow's own
served.py                      what MLflow runs (see there for what it accepts and answers)
use_me.py                      predicts without MLflow, by the fewest packages; its first lines name them
code/retrainer/…               the library code that serving imports, and a plug-in's
artifacts/model/               the model directory, byte for byte
model.sig                      where it is signed: over everything above (see signing.py)
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.formats.columns import ENCODED, encoded_columns, source_names
from retrainer.formats.dataset import SCHEMA
from retrainer.formats.files import write_text
from retrainer.formats.network import task_of
from retrainer.formats.report import PREDICTED
from retrainer.registry import served_code, signing
from retrainer.registry.hand_over import USE_ME, use_me
from retrainer.services.connection import environment, settle_environment
from retrainer.services.scratch import scratch_directory

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from mlflow.models import Model, ModelSignature

    from retrainer.tasks._protocol import Task

_SERVED = Path(__file__).with_name("served.py")
_EXAMPLE_ROWS = 2

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

    `sample` holds raw inputs: its columns are those that the model is asked with, by the names that they had
    in the source (`source_names`), its first rows the example.
    """
    settle_environment()
    from mlflow.models import Model
    from mlflow.pyfunc import save_model

    about = json.loads((model / "model.json").read_text(encoding="utf-8"))
    # What is signed carries the means to check it where it is served.
    signing_code = (signing.__name__,) if key else ()
    family, kind = about["family"], about["task"]["kind"]
    modules, packages = served_code.needed(family, kind, signing_code)
    task = task_of(model, about)
    inputs = sample.select([name for name in task.input_columns if name in sample.column_names])
    names = source_names(inputs.schema)
    written = Model(artifact_path="model", run_id=run_id, model_uuid=model_id, model_id=model_id)
    with scratch_directory() as scratch, environment(_DURING_SAVE):
        # A copy under the name that it has inside: MLflow follows no link, as DVC may have made here.
        inside = Path(shutil.copytree(model, scratch / "model"))
        save_model(
            str(into),
            mlflow_model=written,
            python_model=str(_SERVED),
            code_paths=[str(path) for path in served_code.copy(modules, scratch / "code")],
            artifacts={"model": str(inside)},
            model_config={"columns": inputs.column_names, "source_names": names},
            signature=_signature(sample, task),
            input_example=raw_frame(inputs.slice(0, _EXAMPLE_ROWS)),
            pip_requirements=served_code.requirements(packages),
        )
    _forget_places(written, into)
    columns = {name: (names.get(name, name), task.input_columns[name]) for name in inputs.column_names}
    write_text(into / USE_ME, use_me(columns, served_code.needed(family, kind)[1]))
    if key is not None:
        signing.sign(into, key)


def raw_frame(inputs: pa.Table) -> pd.DataFrame:
    """Raw inputs as a caller would send them: by their names in the source, images and sounds as encoded
    bytes."""
    import pandas as pd

    values = {name: inputs[name].to_pylist() for name in inputs.column_names}
    for name in encoded_columns(inputs.schema):
        values[name] = [value["bytes"] for value in values[name]]
    names = source_names(inputs.schema)
    return pd.DataFrame({names.get(name, name): column for name, column in values.items()})


def _signature(sample: pa.Table, task: Task) -> ModelSignature:
    """Inputs by their names in the source. Outputs are the sample's predictions, where it has any; those of
    classes take the parameter `top_k`."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    fields = {field.name: field.type for field in sample.schema}
    names = source_names(sample.schema)
    inputs = [
        ColSpec(_mlflow_type(fields[name]), names.get(name, name))
        for name in task.input_columns
        if name in fields
    ]
    others = {*task.input_columns, *task.target_columns, *SCHEMA, "row"}
    outputs = [
        ColSpec(_mlflow_type(_answered(kind)), name.removeprefix(PREDICTED))
        for name, kind in fields.items()
        if name not in others
    ]
    params = ParamSchema([ParamSpec("top_k", DataType.long, 0)]) if "probabilities" in fields else None
    return ModelSignature(Schema(inputs), Schema(outputs) if outputs else None, params)


def _answered(kind: pa.DataType) -> pa.DataType:
    """The type of a prediction as it is served: an image in it is base64 text."""
    import pyarrow as pa

    if kind == ENCODED:
        return pa.string()
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _answered(field.type)) for field in kind])
    return kind


def _mlflow_type(kind: pa.DataType) -> Any:
    """The type by which MLflow describes values of this Arrow type."""
    import pyarrow as pa
    from mlflow.types.schema import Array, DataType, Map, Object, Property

    if kind == ENCODED:
        return DataType.binary
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return Array(_mlflow_type(kind.value_type))
    if pa.types.is_struct(kind):
        inner = [_mlflow_type(field.type) for field in kind]
        if all(one == inner[0] for one in inner):
            return Map(inner[0])
        return Object([Property(field.name, one) for field, one in zip(kind, inner, strict=True)])
    if pa.types.is_floating(kind):
        return DataType.double
    if pa.types.is_integer(kind):
        return DataType.long
    return DataType.boolean if pa.types.is_boolean(kind) else DataType.string


def _forget_places(written: Model, into: Path) -> None:
    """MLflow notes where things lay on this machine; nobody else can use that."""
    flavor = written.flavors["python_function"]
    flavor["model_code_path"] = _SERVED.name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    written.save(str(into / "MLmodel"))
