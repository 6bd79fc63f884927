"""What MLflow runs when a registered model is loaded: raw input in, predictions out.

This file is copied beside the model, with the library code that it needs. It may import nothing else of ours.

Input: a DataFrame, a dict, or a list of dicts, with the columns that the model was trained on, by the names
that they had in its source (`review`, `photo`, …; `text`, `image`, … where they had none). By the type of a
column its values are
  string         strings
  image          encoded bytes (PNG, JPEG, …), the same as base64 text, or uint8 arrays [H, W] or [H, W, C]
  audio          encoded bytes (WAV, FLAC, …), or the same as base64 text
  number         numbers
  strings        lists of strings
  numbers        lists of numbers
Output: a DataFrame with what the model's task predicts (`Task.predict`): of a classifier `label` (where a row
may have several: `labels`, a list) and `probabilities` {class: float}, of all classes or, with the parameter
`top_k`, of the likeliest ones; of pixels `mask` {image: a PNG as base64 text, classes: [name of each value]}.
A model that recognises knows those whom the folder RETRAINER_GALLERY has.
"""

from __future__ import annotations

import base64
import heapq
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.pyfunc import PythonModel, PythonModelContext

_ENCODED = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


class InputError(MlflowException, ValueError):
    """The input is wrong: MLflow's server answers with status 400, and its body starts with the reason."""

    def __init__(self, reason: str) -> None:
        MlflowException.__init__(self, reason, error_code=BAD_REQUEST)

    def serialize_as_json(self) -> str:
        # The server puts the whole input before `message`; `args` keeps the reason alone.
        return json.dumps({"message": self.args[0], "error_code": self.error_code})


class Served(PythonModel):
    """A model directory behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        from retrainer.errors import UserError
        from retrainer.predict import Predictor

        verify_signature(Path(context.artifacts["model"]).parents[1])
        self.predictor = Predictor.load(Path(context.artifacts["model"]))
        self.unusable = UserError
        if gallery := os.environ.get("RETRAINER_GALLERY", "").strip():
            self.predictor.enrol(Path(gallery).expanduser())
        names = context.model_config["source_names"]
        types = self.predictor.task.input_columns
        self.columns = {
            name: (names.get(name, name), types[name]) for name in context.model_config["columns"]
        }

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002
        top_k = top_k_of(params)
        table = table_of(model_input, self.columns)
        try:
            predictions = self.predictor.predict(table)
        except self.unusable as error:  # a row: a broken image, for instance
            raise InputError(str(error)) from None
        return frame_of(predictions, top_k)


def verify_signature(bundle: Path) -> None:
    """Where RETRAINER_VERIFY_KEY names a public key (a PEM file, or its text), its signature is demanded."""
    given = os.environ.get("RETRAINER_VERIFY_KEY", "").strip()
    if not given:
        return
    if not (bundle / "model.sig").is_file():
        raise ValueError("this model is not signed, and RETRAINER_VERIFY_KEY asks for a signature")
    from retrainer.registry.signing import verify

    verify(bundle, given.encode() if "-----BEGIN" in given else Path(given).expanduser().read_bytes())


def top_k_of(params: dict[str, Any] | None) -> int:
    """How many classes to name with each row; 0: all. Raises InputError for a negative number."""
    top_k = int((params or {}).get("top_k") or 0)
    if top_k < 0:
        raise InputError(f"top_k is {top_k}: expected how many classes to name with each row, 0 for all")
    return top_k


def table_of(given: pd.DataFrame, columns: dict[str, tuple[str, str]]) -> pa.Table:
    """The model's columns (name → its name in the source, its type) from what the caller gave.

    Raises InputError naming the wrong column or row.
    """
    if lacking := [name for name, _ in columns.values() if name not in given.columns]:
        raise InputError(f"there is no column {lacking[0]!r}; the columns are {list(given.columns)}")
    return pa.table({ours: _column(_rows(given[name], word), word) for ours, (name, word) in columns.items()})


def _rows(column: pd.Series, word: str) -> list[Any]:
    """The values; a single one that holds all rows, as {"text": [...]} arrives, is unpacked."""
    values = column.tolist()
    if len(values) == 1 and isinstance(values[0], list) and not _is_one_row(values[0], word):
        return list(values[0])
    return values


def _is_one_row(value: list[Any], word: str) -> bool:
    """Whether the list is one row's value, pixels for instance, and not all rows."""
    if word in ("strings", "numbers"):
        return not any(isinstance(item, list) for item in value)
    return word == "image" and bool(value) and isinstance(value[0], list | int)


def _column(values: list[Any], word: str) -> pa.Array:
    if word in ("image", "audio"):
        encoded = [{"bytes": _encoded(value, row, word), "path": None} for row, value in enumerate(values)]
        return pa.array(encoded, _ENCODED)
    kinds: dict[str, tuple[Any, str, pa.DataType]] = {
        "string": (str, "a string", pa.string()),
        "number": (int | float, "a number", pa.float64()),
        "strings": (list, "a list of strings", pa.list_(pa.string())),
        "numbers": (list, "a list of numbers", pa.list_(pa.float64())),
    }
    kind, expected, arrow = kinds[word]
    for row, value in enumerate(values):
        if not isinstance(value, kind):
            found = "nothing" if value is None or value != value else type(value).__name__
            raise InputError(f"row {row}: expected {expected}, found {found}")
    return pa.array(values, arrow)


def _encoded(value: Any, row: int, word: str) -> bytes:
    """One image or sound as encoded bytes. Raises InputError naming the row."""
    if isinstance(value, str | bytes):
        # Base64 comes as bytes, too, in MLflow's forms `inputs` and `instances`. No image's or sound's file
        # consists of the signs of base64 alone.
        try:
            return base64.b64decode(value, validate=True)
        except ValueError:
            if isinstance(value, bytes):
                return value
            raise InputError(f"row {row}: the {word} is neither encoded bytes nor base64 text") from None
    if word != "image":
        raise InputError(f"row {row}: expected encoded bytes or base64 text, found {type(value).__name__}")
    return _png(value, row)


def _png(value: Any, row: int) -> bytes:
    """Pixels as a PNG file."""
    from PIL import Image

    pixels = np.asarray(value)
    if pixels.dtype.kind not in "iu" or pixels.ndim not in (2, 3) or pixels.min() < 0 or pixels.max() > 255:
        raise InputError(
            f"row {row}: expected uint8 [H, W] or [H, W, C], found {pixels.dtype} {pixels.shape}"
        )
    pixels = pixels.astype(np.uint8)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def frame_of(predictions: pa.Table, top_k: int) -> pd.DataFrame:
    """One row per input, in plain values: what JSON can hold. `top_k`: of so many classes the probabilities,
    the likeliest first; 0: of all, in the model's order."""
    values = {
        name: [_plain(one) for one in predictions[name].to_pylist()] for name in predictions.column_names
    }
    if top_k and "probabilities" in values:
        values["probabilities"] = [_likeliest(row, top_k) for row in values["probabilities"]]
    return pd.DataFrame(values)


def _plain(value: Any) -> Any:
    """Images as base64 text."""
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("bytes"), bytes):
        return base64.b64encode(value["bytes"]).decode()
    return {name: _plain(part) for name, part in value.items()}


def _likeliest(probabilities: dict[str, float], top_k: int) -> dict[str, float]:
    return dict(heapq.nlargest(top_k, probabilities.items(), key=lambda one: one[1]))


set_model(Served())
