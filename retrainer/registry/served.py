"""What MLflow runs when a registered model is loaded: raw input in, labels and probabilities out.

This file is copied beside the model, with the library code that it needs. It may import nothing else of ours.

Input, by what the model was trained on:
  text           a DataFrame with the column `text` (and `text_pair`), a list of strings, a list of dicts
  image          a DataFrame with the column `image`, or {"image": …}: encoded bytes (PNG, JPEG, …), the same
                 as base64 text, or uint8 arrays [H, W] or [H, W, C]; a list of encoded bytes;
                 {"image": array [N, H, W] or [N, H, W, C]}
Output: a DataFrame with `label` (multi-label: `labels`, a list) and `probabilities` {class: float}.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

IMAGE = "image"


class Served(PythonModel):
    """A model directory behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        from retrainer.predict import Predictor

        verify_signature(Path(context.artifacts["model"]).parents[1])
        self.columns = tuple(context.model_config["columns"])
        self.predictor = Predictor.load(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002
        table = table_of(model_input, self.columns)
        return frame_of(self.predictor, self.predictor.probabilities(table))


def verify_signature(bundle: Path) -> None:
    """Where RETRAINER_VERIFY_KEY names a public key (a PEM file, or its text), its signature is demanded."""
    given = os.environ.get("RETRAINER_VERIFY_KEY", "").strip()
    if not given:
        return
    if not (bundle / "model.sig").is_file():
        raise ValueError("this model is not signed, and RETRAINER_VERIFY_KEY asks for a signature")
    from retrainer.registry.signing import verify

    verify(bundle, given.encode() if "-----BEGIN" in given else Path(given).expanduser().read_bytes())


def table_of(given: Any, columns: tuple[str, ...]) -> pa.Table:
    """The model's columns from what the caller gave. Raises ValueError naming the wrong column or row."""
    frame = given if isinstance(given, pd.DataFrame) else pd.DataFrame(given)
    if not set(columns) <= set(frame.columns):
        unnamed = all(isinstance(name, int) or str(name).isdigit() for name in frame.columns)
        if not unnamed or len(frame.columns) < len(columns):
            raise ValueError(f"expected the columns {list(columns)} first, found {list(frame.columns)}")
        frame = frame.iloc[:, : len(columns)].set_axis(list(columns), axis=1)
    read = {name: _image_column if name == IMAGE else _text_column for name in columns}
    return pa.table({name: read[name](_rows(frame[name])) for name in columns})


def _rows(column: pd.Series) -> list[Any]:
    """The values; a single one that holds all rows, as {"text": [...]} arrives, is unpacked."""
    values = column.tolist()
    if len(values) == 1 and isinstance(values[0], list) and not _is_pixels(values[0]):
        return list(values[0])
    return values


def _is_pixels(value: list[Any]) -> bool:
    return bool(value) and isinstance(value[0], list | int)


def _text_column(values: list[Any]) -> pa.Array:
    for row, value in enumerate(values):
        if not isinstance(value, str):
            found = "nothing" if value is None or value != value else type(value).__name__
            raise ValueError(f"row {row}: expected a string, found {found}")
    return pa.array(values, pa.string())


def _image_column(values: list[Any]) -> pa.Array:
    encoded = [{"bytes": _encoded(value, row), "path": None} for row, value in enumerate(values)]
    return pa.array(encoded, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def _encoded(value: Any, row: int) -> bytes:
    """One image as encoded bytes. Raises ValueError naming the row."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error:
            raise ValueError(f"row {row}: the image is neither encoded bytes nor base64 text") from None
    from PIL import Image

    pixels = np.asarray(value)
    if pixels.dtype.kind not in "iu" or pixels.ndim not in (2, 3) or pixels.min() < 0 or pixels.max() > 255:
        raise ValueError(
            f"row {row}: expected uint8 [H, W] or [H, W, C], found {pixels.dtype} {pixels.shape}"
        )
    pixels = pixels.astype(np.uint8)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def frame_of(predictor: Any, probabilities: np.ndarray) -> pd.DataFrame:
    """Probabilities [N, K] → one row per input, in the words of the model's labels."""
    labels, decided = predictor.labels, predictor.task.decide(probabilities)
    if predictor.task.multi_label:
        chosen = [[label for label, has in zip(labels, row, strict=True) if has] for row in decided]
        answers: dict[str, Any] = {"labels": chosen}
    else:
        answers = {"label": [labels[index] for index in decided]}
    answers["probabilities"] = [dict(zip(labels, row, strict=True)) for row in probabilities.tolist()]
    return pd.DataFrame(answers)


set_model(Served())
